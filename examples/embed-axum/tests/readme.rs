//! The README shows the program as it is compiled here.

#[test]
fn the_readme_shows_this_program() {
    let program = include_str!("../src/main.rs");
    let (_, program) = program.split_once("\n\n").expect("the program begins with its documentation");
    let readme = include_str!("../../../README.md");
    assert!(readme.contains(&format!("```rust\n{program}```\n")), "copy src/main.rs, without its first line, into the README");
}
