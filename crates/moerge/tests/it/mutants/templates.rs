//! Hostile chat templates: values that hold themselves, deep nesting, and results of any size from a few bytes.

/// The templates.
pub fn templates() -> Vec<String> {
    let mut all: Vec<String> = [
        "{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}",
        "{% set a = namespace() %}{% set b = namespace(a=[a]) %}{% set a.b = {'b': b} %}{{ a | tojson }}{{ a ~ b }}",
        "{% set ns = namespace(a=[]) %}{% for i in range(99999) %}{% set ns.a = [ns.a] %}{% endfor %}{{ ns.a }}",
        "{% set ns = namespace(l=[1]) %}{% for i in range(40) %}{% set ns.l = ns.l + ns.l %}{% endfor %}{{ ns.l }}",
        "{% set ns = namespace(l=[1]) %}{% for i in range(40) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l | string }}",
        "{% set ns = namespace(l='ab') %}{% for i in range(40) %}{% set ns.l = ns.l ~ ns.l %}{% endfor %}{{ ns.l }}",
        "{{ messages | tojson(indent=10000000000000) }}",
        "{{ messages | tojson(indent=-1) }}",
        "{{ messages | tojson(separators=('a' * 100000000, 'b')) }}",
        "{{ '{:1000000000}'.format('x') }}",
        "{{ '{:.1000000000f}'.format(1.0) }}",
        "{{ '%01000000000d' % 1 }}",
        "{{ '%1000000000s' | format('x') }}",
        "{{ 'x' * 1000000000 }}{{ 1000000000 * [messages] }}",
        "{{ 'x'.center(1000000000) }}{{ 'x' | indent(1000000000, true) }}",
        "{{ ('x' * 1000000).replace('', 'y' * 1000000) }}",
        "{{ ('y' * 1000000).join(('x' * 1000000) | list) }}",
        "{{ range(1000000000) | list }}",
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% for i in range(99999) %}{{ 'x' * 1000 }}{% endfor %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% macro m() %}{% call m() %}{% endcall %}{% endmacro %}{{ m() }}",
        "{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}",
        "{{ 9 ** 9 ** 9 ** 9 }}{{ 10 ** 1000000 }}{{ 1 // 0 }}{{ -9223372036854775807 - 1 }}",
        "{{ (-9223372036854775807 - 1) // -1 }}{{ (-9223372036854775807 - 1) | abs }}",
        "{{ messages[9223372036854775807] }}{{ messages[::-9223372036854775807] }}{{ 'é'[1:0:-1] }}",
        "{{ strftime_now('%' * 1000000) }}{{ strftime_now('%Y' * 1000000) }}",
        "{{ '\\x1b[31m' }}{{ raise_exception('\\x1b[31m\\n' * 1000000) }}",
        "{{ raise_exception(messages) }}",
        "{{ messages | map('tojson') | join | wordwrap(1) | batch(1) | list }}",
        "{{ messages | batch(1000000000, 'x') | list }}{{ messages | slice(1000000000) | list }}",
        "{{ ('a' * 100000) | truncate(99999, leeway=0) | wordcount }}{{ 'a' | round(400) }}{{ 1e308 | round(308) }}",
        "{{ messages | sort | unique | groupby('x') | sum }}",
        "{{ '', }}{{ {}.get }}{{ [].__class__ }}{{ ''.__class__.__mro__ }}{{ self }}{{ loop }}",
        "{{",
        "{% raw %}",
        "{# ",
        "{% if %}{% else %}{% else %}{% endif %}",
    ]
    .map(str::to_owned)
    .into();
    for n in [100, 1000, 99_999] {
        for (open, inner, close) in [
            ("(", "1", ")"),
            ("[", "1", "]"),
            ("{1:", "1", "}"),
            ("not ", "1", ""),
            ("-", "1", ""),
            ("x[", "0", "]"),
            ("f(", "1", ")"),
            ("1 if 1 else ", "1", ""),
            ("1+", "1", ""),
            ("1 ~ ", "1", ""),
            ("1 == ", "1", ""),
            ("1 ** ", "1", ""),
            ("", "x", ".a"),
            ("", "x", "()"),
            ("", "x", "|abs"),
            ("", "x", " is odd"),
            ("", "x", "[:]"),
        ] {
            all.push(format!("{{{{ {}{inner}{} }}}}", open.repeat(n), close.repeat(n)));
        }
        for (open, close) in [
            ("{% if 1 %}", "{% endif %}"),
            ("{% for i in [1] %}", "{% endfor %}"),
            ("{% set a %}", "{% endset %}"),
            ("{% macro a() %}", "{% endmacro %}"),
            ("{% call a() %}", "{% endcall %}"),
            ("{% filter upper %}", "{% endfilter %}"),
            ("{% with %}", "{% endwith %}"),
            ("{% generation %}", "{% endgeneration %}"),
            ("{% if 0 %}{% else %}", "{% endif %}"),
        ] {
            all.push(format!("{}x{}", open.repeat(n), close.repeat(n)));
        }
    }
    all
}
