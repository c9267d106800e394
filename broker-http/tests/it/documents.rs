//! The documents name what the code serves, and nothing else; what they show is asked and answered.

use broker_core::{Namespace, Verb};
use broker_http::{ApiKeys, ApiOptions, METHODS, TicketMaker};
use serde_json::Value;

use super::server::{Server, builder};

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

#[tokio::test]
async fn every_example_is_answered_in_the_shape_of_its_schema() {
    let server = server();
    for method in METHODS {
        let operation = Operation::of(method);
        let answer: Value = serde_json::from_str(&server.ask(method, operation.example).await).unwrap();
        let answer = if method == "batch" { &answer } else { &answer["result"] };
        let given: Vec<_> = answer.as_object().unwrap_or_else(|| panic!("{method}: {answer}")).keys().collect();
        let known = properties(operation.answer);
        assert!(given.iter().all(|name| known.contains(&name.as_str())), "{method}: {given:?} are not all of {known:?}");
        for required in required(operation.answer) {
            assert!(given.iter().any(|name| *name == required), "{method}: {required} is not in {given:?}");
        }
    }
}

#[tokio::test]
async fn every_field_of_a_request_in_the_openapi_file_is_read() {
    let server = server();
    let mut fields = 0;
    for method in METHODS {
        let operation = Operation::of(method);
        for name in properties(operation.request) {
            fields += 1;
            // Only a field that is read is refused when it stands twice.
            let start = operation.example.strip_suffix('}').unwrap();
            let comma = if start == "{" { "" } else { "," };
            let answer = server.ask(method, &format!(r#"{start}{comma}"{name}":null,"{name}":null}}"#)).await;
            assert!(answer.contains(&format!("{name} stands twice")), "{method}.{name}: {answer}");
        }
    }
    assert!(fields > 100, "only {fields} fields were found");
}

/// A server on which every topic has all that is asked for.
fn server() -> Server {
    let all = Namespace::default().history(10, std::time::Duration::from_secs(60)).keyed().presence().allow(Verb::Subscribe);
    let tickets = TicketMaker::new(|_claims| async { Ok("a-ticket".to_owned()) });
    let options = ApiOptions::default().keys(ApiKeys::one("k")).tickets(tickets);
    Server::on(builder().default_namespace(all).build().unwrap(), options)
}

/// One method in the file.
struct Operation {
    example: &'static str,
    /// The schema of its request.
    request: &'static str,
    /// The schema of its result.
    answer: &'static str,
}

impl Operation {
    fn of(method: &str) -> Self {
        let (_, rest) = OPENAPI.split_once(&format!("\n  /api/{method}:\n")).unwrap();
        let (request, rest) = rest.split_once("            example: ").unwrap();
        let (example, answer) = rest.split_once('\n').unwrap();
        Self { example, request: references(request).next().unwrap(), answer: references(answer).next().unwrap() }
    }
}

/// The schemas that a part of the file names, in their order.
fn references(part: &'static str) -> impl Iterator<Item = &'static str> {
    part.lines().filter_map(|line| line.split_once("$ref: \"#/components/schemas/")?.1.strip_suffix('"'))
}

/// The lines of a schema.
fn schema(name: &str) -> impl Iterator<Item = &'static str> {
    let (_, schemas) = OPENAPI.split_once("\n  schemas:\n").unwrap();
    let mut lines = schemas.lines().skip_while(move |line| line.trim_end_matches(':') != format!("    {name}"));
    lines.next();
    lines.take_while(|line| line.starts_with("     "))
}

/// The fields of a schema and of those it is put together from.
fn properties(name: &str) -> Vec<&'static str> {
    let mut names = Vec::new();
    let mut inside = None;
    for line in schema(name) {
        let indent = line.len() - line.trim_start().len();
        let text = line.trim_start();
        if inside.is_some_and(|at| indent <= at) {
            inside = None;
        }
        match inside {
            Some(at) if indent == at + 2 => names.push(text.trim_end_matches(':')),
            // Deeper ones are those of a field.
            None if text == "properties:" && indent <= 10 => inside = Some(indent),
            None if indent <= 8 => {
                for part in references(line) {
                    names.extend(properties(part));
                }
            }
            _ => {}
        }
    }
    names
}

/// The fields that a schema demands.
fn required(name: &str) -> Vec<&'static str> {
    let list = schema(name).find_map(|line| line.strip_prefix("      required: [")?.strip_suffix(']'));
    list.map_or_else(Vec::new, |list| list.split(", ").collect())
}
