//! Templates that ask for too much, and what Python's rules give. `tests/chat_templates/compare.py` compares whole
//! templates with transformers' renderings.

use moerge_core::{
    ErrorKind,
    progress::{Progress, Silent, Stage},
};

use super::*;

const LIMITS: Limits = Limits { steps: 4_000_000, memory: 64 << 20, output: 1 << 20 };

fn render(source: &str) -> Result<String, Failure> {
    Template::parse(source)?.render(
        &[("x".into(), serde_json::json!({"a": [1, 2.0, true, null, "it's"]}))],
        LIMITS,
        &Silent,
    )
}

fn text(source: &str) -> String {
    render(source).unwrap_or_else(|failure| panic!("{source}: {failure:?}"))
}

/// A refusal that blames the limits.
fn refused(source: &str) {
    match render(source) {
        Ok(text) => panic!("{:.80}: {} bytes", source, text.len()),
        Err(failure) => assert!(matches!(failure.cause, Cause::Limit), "{source:.80}: {failure:?}"),
    }
}

#[test]
fn attack_04_namespaces_that_hold_themselves_are_an_error_and_no_overflow() {
    for end in
        ["{{ ns }}", "{{ ns | tojson }}", "{{ '%s' % ns }}", "{{ [ns] }}", "{{ ns ~ '' }}", "{{ [ns] | string }}"]
    {
        let one = format!("{{% set ns = namespace() %}}{{% set ns.a = ns %}}{end}");
        assert!(render(&one).is_err(), "{one}");
        let two =
            format!("{{% set ns = namespace() %}}{{% set b = namespace(a=[ns]) %}}{{% set ns.b = {{'b': b}} %}}{end}");
        assert!(render(&two).is_err(), "{two}");
    }
    assert_eq!(text("{% set n = namespace() %}{% set n.a = n %}{% set n.b = 1 %}{{ n.a.a.b }}{{ n == n.a }}"), "1True");
    let chain = "{% set ns = namespace(cur=namespace()) %}{% for i in range(99999) %}{% set n = namespace() %}\
        {% set n.prev = ns.cur %}{% set ns.cur = n %}{% endfor %}{{ ns.cur.prev is defined }}";
    assert_eq!(text(chain), "True");
}

#[test]
fn attack_04_nesting_is_bounded_at_parse_and_at_render() {
    for n in [200, 99_999] {
        for (open, close) in
            [("(", ")"), ("[", "]"), ("{1:", "}"), ("not ", ""), ("-", ""), ("f(", ")"), ("1 if 1 else ", "")]
        {
            refused(&format!("{{{{ {}1{} }}}}", open.repeat(n), close.repeat(n)));
        }
        refused(&format!("{}x{}", "{% if 1 %}".repeat(n), "{% endif %}".repeat(n)));
        refused(&format!("{}x{}", "{% for i in x %}".repeat(n), "{% endfor %}".repeat(n)));
        refused(&format!("{}x{}", "{% set a %}".repeat(n), "{% endset %}".repeat(n)));
        refused(&format!("{}x{}", "{% macro a() %}".repeat(n), "{% endmacro %}".repeat(n)));
    }
    refused("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}");
    refused("{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}");
    refused("{% macro m() %}{% call m() %}{% endcall %}{% endmacro %}{{ m() }}");
    refused("{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}");
    refused("{% set ns = namespace(a=[]) %}{% for i in range(9999) %}{% set ns.a = [ns.a] %}{% endfor %}");
    refused("{% set ns = namespace(a={}) %}{% for i in range(9999) %}{% set ns.a = {'a': (ns.a,)} %}{% endfor %}");
    refused(
        "{% set ns = namespace(a=1) %}{% for i in range(9999) %}{% for j in [ns.a] %}{% set ns.a = loop %}{% endfor %}{% endfor %}",
    );
}

#[test]
fn attack_04_expressions_of_fifty_thousand_operators_are_refused() {
    for operator in [
        "+",
        "-",
        "*",
        "//",
        "%",
        "**",
        " and ",
        " or ",
        " == ",
        " < ",
        " in ",
        "|abs|",
        ".a.",
        "()()",
        "[0][0]",
        " is number is ",
    ] {
        let operand = if operator.starts_with(['.', '(', '[']) { "a" } else { "1" };
        let tail = if operator.ends_with(['|']) {
            "abs"
        } else if operator.starts_with(['(', '[']) {
            ""
        } else if operator.ends_with("is ") {
            "odd"
        } else {
            operand
        };
        refused(&format!("{{{{ {operand}{}{tail} }}}}", format!("{operator}{tail}").repeat(50_000)));
    }
    refused(&format!("{{{{ {} }}}}", ["((((1+1)|abs)*2)==3)or 1"; 400].join(" + ")));
    // These do not nest.
    assert!(render(&format!("{{{{ 1{} }}}}", " ~ 1".repeat(50_000))).is_ok());
    assert!(render(&format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}".repeat(50_000))).is_ok());
    refused(&"{{ 1 }}".repeat(200_000));
}

#[test]
fn attack_05_memory_output_and_time_are_bounded() {
    let doubled = |with: &str| {
        format!(
            "{{% set ns = namespace(l={with}) %}}{{% for i in range(40) %}}{{% set ns.l = ns.l + ns.l %}}{{% endfor %}}"
        )
    };
    let sources: [&str; 61] = [
        // Character by character: seconds for what is copied at once.
        "{{ ('a' * 20000000) | title }}",
        "{{ ('a' * 20000000).swapcase() }}",
        "{{ ('a' * 20000000).istitle() }}",
        &doubled("[1]"),
        &doubled("'ab'"),
        &doubled("(1,)"),
        // Shared, not copied: small in memory, and endless to walk.
        "{% set ns = namespace(l=[1]) %}{% for i in range(40) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}",
        "{% set ns = namespace(l=[1]) %}{% for i in range(40) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l | tojson }}",
        "{% set ns = namespace(l=[1], m=[1]) %}{% for i in range(40) %}{% set ns.l = [ns.l, ns.l] %}{% set ns.m = [ns.m, ns.m] %}{% endfor %}{{ ns.l == ns.m }}",
        "{% set ns = namespace(l=[1], m=[1]) %}{% for i in range(40) %}{% set ns.l = [ns.l, ns.l] %}{% set ns.m = [ns.m, ns.m] %}{% endfor %}{{ ns.l < ns.m }}",
        "{{ x | tojson(indent=10000000000000) }}",
        "{{ x | tojson(indent=30000000) }}",
        "{{ x | tojson(separators=('a' * 30000000, 'b')) }}",
        "{{ '{:1000000000}'.format('x') }}",
        "{{ '{:01000000000d}'.format(1) }}",
        "{{ '{:.1000000000f}'.format(1.0) }}",
        "{{ '{:99999999999999999999999}'.format(1) }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '%01000000000d' % 1 }}",
        "{{ '%.1000000000f' % 1 }}",
        "{{ '%1000000000s' % 'x' }}",
        "{{ '%1000000000s' | format('x') }}",
        "{{ 'x' * 1000000000 }}",
        "{{ 1000000000 * 'x' }}",
        "{{ [1] * 9223372036854775807 }}",
        "{{ range(1000000000) | length }}",
        "{{ range(-9223372036854775807, 9223372036854775807) | length }}",
        "{{ 'x'.center(1000000000) }}",
        "{{ 'x'.ljust(1000000000) }}",
        "{{ 'x'.zfill(1000000000) }}",
        "{{ 'x' | center(1000000000) }}",
        "{{ 'x\ny' | indent(1000000000) }}",
        "{{ ('x' * 1000000).replace('x', 'y' * 1000000) }}",
        "{{ ('x' * 1000000).replace('', 'y' * 1000000) }}",
        "{{ ('x' * 1000000) | replace('x', 'y' * 1000000) }}",
        "{{ ('y' * 1000000).join(('x' * 1000000) | list) }}",
        "{{ range(99999) | join('y' * 1000000) }}",
        "{{ range(99999) | batch(1, 'y') | batch(1000000000, 'z') | list }}",
        "{{ ('a ' * 30000000).split() }}",
        "{{ ('a' * 30000000) | list }}",
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% for i in range(99999) %}{% for j in range(99999) if false %}{% endfor %}{% endfor %}",
        "{% for i in range(99999) %}{{ 'x' * 1000 }}{% endfor %}",
        "{% set a = 'x' * 10000000 %}{% for i in range(99999) %}{% if a.count('y') %}{% endif %}{% endfor %}",
        "{% set a = 'x' * 10000000 %}{% for i in range(99999) %}{% if 'y' in a %}{% endif %}{% endfor %}",
        "{% set a = 'x' * 10000000 %}{{ a.strip(a) }}",
        "{% set a = 'x' * 10000000 %}{% for i in range(99999) %}{% if a[1] %}{% endif %}{% endfor %}",
        "{% for i in range(99999) %}{% macro m() %}{% endmacro %}{% set a = namespace(x=1, y=2, z=3) %}{{ m() }}{% endfor %}{% for i in range(99999) %}{% macro m() %}{% endmacro %}{% set a = namespace(x=1, y=2, z=3) %}{{ m() }}{% endfor %}",
        "{% set l = range(99999) | list %}{% for i in l %}{% if i in l %}{% endif %}{% endfor %}",
        "{{ range(99999) | unique | list | length }}",
        "{% for i in range(99999) %}{{ range(99999) | sort | first }}{% endfor %}",
        "{{ range(99999) | map('string') | map('center', 100000) | join | length }}",
        "{{ ('x' * 1000000) | wordwrap(1) }}",
        "{{ range(9) | slice(1000000000) | list }}",
        "{{ '%*d' % (1000000000, 1) }}",
        "{{ '%.*d' % (1000000000, 1) }}",
        "{{ '{:{}}'.format('x', 1000000000) }}",
        "{{ ('\t' * 1000).expandtabs(1000000000) }}",
        "{{ ('<' * 30000000) | e }}",
        "{{ ('' | safe).join(('<' * 3000000) | list) }}",
        "{% for i in range(99999) %}{% for j in range(99999) %}{{ loop.changed(i, j) }}{% endfor %}{% endfor %}",
    ];
    sources.into_iter().for_each(refused);
}

#[test]
fn attack_05_a_run_that_is_stopped_ends_a_template() {
    struct Stopped;
    impl Progress for Stopped {
        fn start(&self, _: Stage, _: u64, _: u64) {}
        fn advance(&self, _: Stage, _: u64) {}
        fn finish(&self, _: Stage, _: &str) {}
        fn stop_requested(&self) -> bool {
            true
        }
    }
    let endless =
        Template::parse("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}").unwrap();
    let failure = endless.render(&[], LIMITS, &Stopped).unwrap_err();
    assert!(matches!(failure.cause, Cause::Stopped(error) if error.kind() == ErrorKind::Interrupted));
}

#[test]
fn fault_08_values_print_as_in_python() {
    assert_eq!(
        text("{{ x }} {{ 1e16 }} {{ 0.00001 }} {{ 1.5 }} {{ none }}"),
        r#"{'a': [1, 2.0, True, None, "it's"]} 1e+16 1e-05 1.5 None"#
    );
    assert_eq!(
        text("{{ (1,) }}{{ 7 // -2 }} {{ -7 % 3 }} {{ 2 ** 10 }} {{ 7 / 2 }} {{ true + 1 }}"),
        "(1,)-4 2 1024 3.5 2"
    );
    assert!(
        render("{{ 9223372036854775807 + 1 }}").is_err()
            && render("{{ 1 // 0 }}").is_err()
            && render("{{ -9223372036854775807 - 2 }}").is_err()
    );
}
