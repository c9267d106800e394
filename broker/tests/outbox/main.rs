//! How the outbox behaves: every store passes the suite, and what is committed is published once.

mod failing;
mod publishing;
mod sqlite;

#[test]
fn the_program_in_the_documentation_is_the_one_that_runs() {
    let program = include_str!("../../src/outbox/example.rs");
    assert!(include_str!("../../../docs/outbox.md").contains(program), "copy broker/src/outbox/example.rs into docs/outbox.md");
}
