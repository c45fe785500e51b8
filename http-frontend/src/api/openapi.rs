//! The `OpenAPI` 3.1 description, made from the code.

use std::sync::LazyLock;

use axum::body::Bytes;
use axum::response::Response;
use serde_json::Value;
use utoipa::OpenApi;

use crate::api::products::Product;
use crate::api::users::User;
use crate::page::json;
use crate::router;

/// What the description says beside the routes.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Kappa",
        description = "Documents, live updates and parallel number work over one durable log.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
    ),
    components(schemas(Product, User)),
    tags(
        (name = "products", description = "Products: documents with a title and a price"),
        (name = "users", description = "Users: documents with a name, an e-mail address and a group"),
        (name = "collections", description = "Documents of any kind, and what their collections promise"),
        (name = "batch", description = "Several operations that happen together or not at all"),
        (name = "tasks", description = "Work that is done later: what is to be done, and what became of it"),
        (name = "queues", description = "Where tasks wait, and what holds for them there"),
        (name = "schedules", description = "Tasks that are enqueued again and again"),
        (name = "work", description = "For workers in any language: claim tasks, and report what became of them"),
        (name = "randoms", description = "How often each number comes up among many random draws"),
        (name = "changes", description = "Every change as it happens"),
        (name = "operations", description = "For those who run the server")
    )
)]
pub struct Description;

/// A collection with rules of its own: its name, one of it, and the schema of its documents.
const OWN_ROUTES: [(&str, &str, &str); 2] = [("products", "product", "Product"), ("users", "user", "User")];

/// What a list of documents answers; `DocumentPage` becomes `ProductPage`, and so on.
const FORMS: [&str; 3] = ["List", "Page", "Selection"];

/// The description of the routes under `/v1` and of the probes, as JSON.
pub fn document() -> Value {
    let (_, description) = router::described().split_for_parts();
    let mut document = serde_json::to_value(description).expect("a description is plain data");
    describe_failures(&mut document);
    for (collection, one, schema) in OWN_ROUTES {
        describe_own_routes(&mut document, collection, one, schema);
    }
    document
}

/// Any operation may fail on the server's side, and does so with a problem.
fn describe_failures(document: &mut Value) {
    let paths = document["paths"].as_object_mut().expect("there are paths");
    let operations =
        paths.values_mut().flat_map(|path| path.as_object_mut().expect("a path is an object").values_mut());
    for operation in operations {
        operation["responses"]["5XX"] = serde_json::json!({
            "description": "Not served: the problem says whether, and after how long, a retry makes sense",
            "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
        });
    }
}

/// Products and users answer on routes of their own with the handlers of any collection, so their description is the
/// same, with the document's schema and names put in.
fn describe_own_routes(document: &mut Value, collection: &str, one: &str, schema: &str) {
    let rename = |value: &Value| -> Value {
        let mut text = value.to_string().replace("schemas/AnyDocument\"", &format!("schemas/{schema}\""));
        for form in FORMS {
            text = text.replace(&format!("schemas/Document{form}\""), &format!("schemas/{schema}{form}\""));
        }
        serde_json::from_str(&text).expect("names replaced by names leave JSON")
    };
    for (general, own) in [("/v1/collections/{name}", ""), ("/v1/collections/{name}/{id}", "/{id}")] {
        let path = &document["paths"][general];
        let patched = path["patch"]["requestBody"].clone();
        let mut path = rename(path);
        for operation in path.as_object_mut().expect("a path is an object").values_mut() {
            operation["tags"] = serde_json::json!([collection]);
            let id = operation["operationId"].as_str().unwrap_or_default();
            operation["operationId"] = id.replace("documents", collection).replace("document", one).into();
            if let Some(parameters) = operation["parameters"].as_array_mut() {
                parameters.retain(|parameter| parameter["name"] != "name");
            }
        }
        if !patched.is_null() {
            // A patch names only the fields it changes; the schema of a whole document would demand all of them.
            path["patch"]["requestBody"] = patched;
        }
        document["paths"][format!("/v1/{collection}{own}")] = path;
    }
    for form in FORMS {
        let general = rename(&document["components"]["schemas"][format!("Document{form}")]);
        document["components"]["schemas"][format!("{schema}{form}")] = general;
    }
}

/// Describes this server.
pub async fn openapi() -> Response {
    // Made once: it is the same for everybody, and making it takes milliseconds of a thread that answers.
    static TEXT: LazyLock<Bytes> = LazyLock::new(|| document().to_string().into());
    json(TEXT.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A description that is not the code's leads every generated client astray. `kappa-server openapi` prints it anew.
    #[test]
    fn the_committed_description_is_the_codes() {
        let committed: Value = serde_json::from_str(include_str!("../../openapi.json")).expect("JSON");
        assert!(committed == document(), "openapi.json is old: write it again with `kappa-server openapi`");
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        let text = document.to_string();
        for part in text.split("\"#/").skip(1) {
            let pointer = part.split('"').next().expect("a reference ends");
            assert!(document.pointer(&format!("/{pointer}")).is_some(), "nothing at #/{pointer}");
        }
        assert_eq!(document["openapi"], "3.1.0");
    }

    /// The two mistakes that the macros let through and that validators of `OpenAPI` refuse.
    #[test]
    fn every_response_is_described_and_no_type_contradicts_itself() {
        let document = document();
        for (path, item) in document["paths"].as_object().expect("paths") {
            for (method, operation) in item.as_object().expect("operations") {
                for (status, response) in operation["responses"].as_object().expect("responses") {
                    let described = response["description"].as_str().is_some_and(|text| !text.is_empty());
                    assert!(described, "{method} {path} {status}");
                }
            }
        }
        assert_eq!(contradictions(&document), Vec::<String>::new());
    }

    /// Schemas that demand two types at once, which no value has.
    fn contradictions(value: &Value) -> Vec<String> {
        let below = match value {
            Value::Object(fields) => fields.values().flat_map(contradictions).collect(),
            Value::Array(items) => items.iter().flat_map(contradictions).collect(),
            _ => Vec::new(),
        };
        let parts = value["allOf"].as_array().into_iter().flatten();
        let types: std::collections::BTreeSet<_> = parts.filter_map(|part| part["type"].as_str()).collect();
        if types.len() > 1 { [below, vec![value.to_string()]].concat() } else { below }
    }

    #[test]
    fn operations_have_distinct_names() {
        let document = document();
        let mut seen = std::collections::BTreeSet::new();
        for (path, item) in document["paths"].as_object().expect("paths") {
            for (method, operation) in item.as_object().expect("operations") {
                let id = operation["operationId"].as_str().expect("a name");
                assert!(seen.insert(id.to_owned()), "{method} {path}: {id} is taken");
            }
        }
        assert!(seen.contains("create_product") && seen.contains("list_users"), "{seen:?}");
    }
}
