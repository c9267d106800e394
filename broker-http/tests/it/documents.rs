//! The documents name what the code serves, and nothing else.

use broker_http::METHODS;

const OPENAPI: &str = include_str!("../../../docs/protocols/openapi.yaml");
const TEXT: &str = include_str!("../../../docs/protocols/server-api.md");

#[test]
fn the_openapi_file_has_the_methods_of_the_code() {
    let paths: Vec<_> = OPENAPI.lines().filter_map(|line| line.strip_prefix("  /api/")?.strip_suffix(':')).collect();
    assert_eq!(paths, METHODS);
    let operations: Vec<_> = OPENAPI.lines().filter_map(|line| line.strip_prefix("      operationId: ")).collect();
    assert_eq!(operations, [&METHODS[..], &["health", "ready"]].concat());
}

#[test]
fn the_text_has_the_methods_of_the_code() {
    let (_, section) = TEXT.split_once("## Methods of this version").unwrap();
    let methods: Vec<_> = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).take(METHODS.len()).collect();
    assert_eq!(methods, METHODS);
}

#[test]
fn every_reference_of_the_openapi_file_has_its_target() {
    for line in OPENAPI.lines() {
        let Some((_, reference)) = line.split_once("$ref: \"#/components/") else { continue };
        let (kind, name) = reference.trim_end_matches('"').split_once('/').unwrap();
        let (_, section) = OPENAPI.split_once(&format!("\n  {kind}:\n")).unwrap();
        assert!(section.contains(&format!("    {name}:\n")), "{kind}/{name}");
    }
}
