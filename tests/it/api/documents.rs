//! The OpenAPI documents say what is served: every operation of theirs answers, and no route stands beside them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Office;

const DOCUMENTS: [&str; 5] = [
    "/api/v1/openapi.json",
    "/openapi/onelogin.json",
    "/openapi/opal.json",
    "/openapi/timbal.json",
    "/openapi/odc.json",
];

/// Method and path of every operation of a document.
async fn operations(office: &Office, document: &str) -> Vec<(String, String)> {
    let answer = office.house.send_to(office.house.running.admin, "GET", document, &[], b"").await;
    let read: Value = serde_json::from_str(&answer.body).unwrap();
    let paths = read["paths"].as_object().unwrap().iter();
    let each = paths.flat_map(|(path, operations)| {
        let methods = operations.as_object().unwrap().keys().map(|method| method.to_uppercase());
        methods.map(move |method| (method, path.clone())).collect::<Vec<_>>()
    });
    each.collect()
}

/// What validators and generators of clients insist on: every response says what it is, no two operations have one id, and
/// what is referred to is there.
#[tokio::test(flavor = "multi_thread")]
async fn api01_documents_are_valid() {
    let office = Office::open().await;
    let (mut responses, mut references) = (0, 0);
    for document in DOCUMENTS {
        let answer = office.house.send_to(office.house.running.admin, "GET", document, &[], b"").await;
        let read: Value = serde_json::from_str(&answer.body).unwrap();
        let mut ids = BTreeSet::new();
        for (path, operations) in read["paths"].as_object().unwrap() {
            for (method, operation) in operations.as_object().unwrap() {
                let id = operation["operationId"].as_str().unwrap_or_default();
                assert!(!id.is_empty() && ids.insert(id), "{document}: {method} {path}: the id `{id}` is taken");
                for (status, response) in operation["responses"].as_object().unwrap() {
                    let description = response["description"].as_str().unwrap_or_default();
                    assert!(!description.trim().is_empty(), "{document}: {method} {path}: {status} is not described");
                    responses += 1;
                }
                let expected: BTreeSet<&str> =
                    path.split('{').skip(1).filter_map(|part| part.split('}').next()).collect();
                let parameters = operation["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
                let in_path = parameters.iter().filter(|parameter| parameter["in"] == "path");
                let found: BTreeSet<&str> = in_path.filter_map(|parameter| parameter["name"].as_str()).collect();
                assert_eq!(found, expected, "{document}: {method} {path}");
            }
        }
        references += check_references(document, &read, &read);
    }
    assert!(responses > 1000 && references > 500, "{responses} {references}");
}

/// Every `$ref` below a value resolves within its document; answers how many there are.
fn check_references(document: &str, whole: &Value, value: &Value) -> usize {
    let below = |value| check_references(document, whole, value);
    match value {
        Value::Object(members) => {
            let mut count = 0;
            if let Some(Value::String(reference)) = members.get("$ref") {
                let found = reference.strip_prefix('#').and_then(|pointer| whole.pointer(pointer));
                assert!(found.is_some_and(Value::is_object), "{document}: {reference} is not there");
                count = 1;
            }
            count + members.values().map(below).sum::<usize>()
        }
        Value::Array(items) => items.iter().map(below).sum(),
        _ => 0,
    }
}

/// Without credentials an operation answers 401, and what asks for none 200 or 400; 404 and 405 mean that nothing is there.
#[tokio::test(flavor = "multi_thread")]
async fn every_operation_of_a_document_is_served() {
    let office = Office::open().await;
    let mut count = 0;
    for document in DOCUMENTS {
        for (method, path) in operations(&office, document).await {
            let target = path.replace(['{', '}'], "");
            let answer = office.house.send_to(office.house.running.admin, &method, &target, &[], b"").await;
            assert!([200, 400, 401].contains(&answer.status), "{method} {path}: {} {}", answer.status, answer.body);
            count += 1;
        }
    }
    assert!(count > 90, "{count}");
}

/// Whatever is asked in a way that no operation has is answered in the words of the face, and never without any.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_operation_is_refused_in_the_words_of_the_face() {
    let office = Office::open().await;
    for (method, path, status) in [
        ("PUT", "/api/v1/groups", 405),
        ("PATCH", "/api/2/mappings", 405),
        ("PATCH", "/v1/idp-group-mappings/x", 405),
        ("PUT", "/orgs/1/identity-providers", 405),
        ("PUT", "/api/identity/v1/groups", 405),
        ("GET", "/api/v1/nothing", 404),
        ("GET", "/api/2/nothing", 404),
        ("GET", "/orgs/1/nothing", 404),
        ("GET", "/api/identity/v1/nothing", 404),
        ("GET", "/api/2/mappings/%ff", 404),
        ("GET", "/v1/idp-group-mappings/%ff", 404),
        ("GET", "/orgs/%ff/identity-providers", 404),
    ] {
        let (found, body, answer) = office.call(super::ADMIN, method, path, &[], None).await;
        assert_eq!(found, status, "{method} {path}: {}", answer.body);
        assert!(body.is_object(), "{method} {path}: {}", answer.body);
        assert_eq!(answer.headers.contains_key("allow"), status == 405, "{method} {path}");
    }
    let long = "x".repeat((1 << 20) + 1);
    for (method, path) in [
        ("POST", "/api/v1/groups"),
        ("POST", "/api/2/mappings"),
        ("PUT", "/v1/idp-group-mappings/x"),
        ("POST", "/orgs/1/identity-providers/oidc/group-mappings"),
        ("POST", "/api/identity/v1/groups"),
    ] {
        let body = Some(Value::String(long.clone()));
        let (found, body, answer) = office.call(super::ADMIN, method, path, &[], body).await;
        assert_eq!((found, body.is_object()), (413, true), "{method} {path}: {}", answer.body);
    }
}

/// What `routes!` makes is in the document by itself. A route that is made by hand has to be there, too, unless it serves
/// people who run this, or says that there is nothing.
#[tokio::test(flavor = "multi_thread")]
async fn every_route_is_in_a_document() {
    let office = Office::open().await;
    let mut documented = BTreeSet::new();
    for document in DOCUMENTS {
        documented.extend(operations(&office, document).await.into_iter().map(|(_, path)| path));
    }
    let (mut found, mut beside) = (0, Vec::new());
    for file in files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/serve"), "admin") {
        let text = std::fs::read_to_string(&file).unwrap();
        for after in text.split(".route(").skip(1) {
            found += 1;
            let path = after.trim_start().strip_prefix('"').and_then(|text| text.split('"').next());
            let allowed = match path {
                // The documents themselves are served from a list of their paths.
                None => after.starts_with("path, get(show))"),
                // Pages for people.
                Some(path) if path.starts_with("/console") => true,
                Some(path) => {
                    documented.contains(path) || path.ends_with("{*path}") || ["/readyz", "/metrics"].contains(&path)
                }
            };
            if !allowed {
                beside.push(format!("{}: {}", file.display(), after.lines().next().unwrap_or_default()));
            }
        }
    }
    assert!(found >= 7, "{found}: the way that routes are written has changed, and this test with it");
    assert!(beside.is_empty(), "routes in no document:\n{}", beside.join("\n"));
}

/// `name.rs`, and all below `name/`.
fn files(folder: &Path, name: &str) -> Vec<PathBuf> {
    let mut all = vec![folder.join(format!("{name}.rs"))];
    let mut folders = vec![folder.join(name)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { all.push(path) }
        }
    }
    all
}
