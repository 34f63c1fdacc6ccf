//! Recipes made to exhaust memory, stack or patience.

use insta::assert_snapshot;

use super::*;

#[test]
fn deep_nesting_is_refused() {
    let flow = Recipe::parse("moe.yml", &"[".repeat(100_000)).unwrap_err();
    assert_eq!(flow.parts().message, "brackets or lists within lists, too deep for a recipe");
    let block: String = (0..100).map(|depth| format!("{}- \n", " ".repeat(depth))).collect();
    assert_snapshot!(error(&block), @"
    error: brackets or lists within lists, too deep for a recipe
      --> moe.yml:33:33
    33 |                                 - 
       |                                 ^ recursion limit exceeded
    ");
}

#[test]
fn a_billion_laughs_are_refused_at_once() {
    let mut text = String::from("a: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
    for level in 1..20 {
        let row = vec![format!("*a{}", level - 1); 10].join(", ");
        text.push_str(&format!("b{level}: &a{level} [{row}]\n"));
    }
    let start = std::time::Instant::now();
    assert_snapshot!(error(&text), @"
    error: the recipe grows too large here
      --> moe.yml:6:40
    6 | b5: &a5 [*a4, *a4, *a4, *a4, *a4, *a4, *a4, *a4, *a4, *a4]
      |                                        ^^^ beyond 1000000 values, 64 MiB, 64 levels
      hint: put thousands of prompts into a `positive_prompts_file`; use fewer aliases (`*name`)
    ");
    assert!(start.elapsed().as_secs() < 5);
}

#[test]
fn a_long_text_repeated_by_aliases_is_refused() {
    let text = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), vec!["*a"; 100].join(", "));
    let error = Recipe::parse("moe.yml", &text).unwrap_err();
    assert_eq!(error.parts().message, "the recipe grows too large here");
}

#[test]
fn aliases_nested_without_end_do_not_overflow_the_stack() {
    let mut text = String::from("- &a0 [x]\n");
    for level in 1..100_000 {
        text.push_str(&format!("- &a{level} [*a{}]\n", level - 1));
    }
    let error = Recipe::parse("moe.yml", &text).unwrap_err();
    assert_eq!(error.parts().message, "the recipe grows too large here");
}

#[test]
fn many_keys_take_no_quadratic_time() {
    let keys: String = (0..100_000).map(|i| format!("  k{i}: v\n")).collect();
    let text = format!("a: &a\n{keys}b:\n  <<: *a\n{keys}");
    let start = std::time::Instant::now();
    assert!(Recipe::parse("moe.yml", &text).is_err());
    assert!(start.elapsed().as_secs() < 20);
}
