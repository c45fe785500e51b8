//! `/api/productos` and the other routes of the shop, with the exact bodies its clients know.

use serde_json::Value;

use crate::server::Server;

const BAD_VALUES: &str = r#"{"error":"Los valores enviados no son válidos"}"#;
const NOT_FOUND: &str = r#"{"error":"Producto no encontrado"}"#;
const TECLADO: &str = r#"{"title":"Teclado","price":345.5,"thumbnail":"https://example.com/t.png"}"#;

fn id_of(product: &Value) -> String {
    product["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_product_lives_from_post_to_delete() {
    let server = Server::start();
    let client = server.client;
    for slash in ["", "/"] {
        client.get(&format!("/api/productos{slash}")).is(200, "[]");
        let made = client.json("POST", &format!("/api/productos{slash}"), TECLADO);
        let id = id_of(&made.json()["newProduct"]);
        let product = |title: &str, price: &str| {
            format!(r#"{{"id":"{id}","title":"{title}","price":{price},"thumbnail":"https://example.com/t.png"}}"#)
        };
        made.is(201, &format!(r#"{{"result":"ok","newProduct":{}}}"#, product("Teclado", "345.5")));
        let path = format!("/api/productos/{id}{slash}");
        client.get(&path).is(200, &product("Teclado", "345.5"));
        client.get(&format!("/api/productos{slash}")).is(200, &format!("[{}]", product("Teclado", "345.5")));
        let put = client.json("PUT", &path, r#"{"title":"","price":"20.499","stock":3}"#);
        put.is(200, &format!(r#"{{"result":"ok","updateProduct":{}}}"#, product("Teclado", "20.5")));
        let put = client.form("PUT", &path, "title=Rat%C3%B3n&price=&thumbnail=");
        put.is(200, &format!(r#"{{"result":"ok","updateProduct":{}}}"#, product("Ratón", "20.5")));
        client.send("DELETE", &path, &[], b"").is(200, &format!(r#"{{"result":"ok","deletedId":"{id}"}}"#));
        client.send("DELETE", &path, &[], b"").is(404, NOT_FOUND);
        client.get(&path).is(404, NOT_FOUND);
        client.json("PUT", &path, r#"{"price":1}"#).is(404, NOT_FOUND);
    }
}

#[test]
fn what_is_no_product_is_refused() {
    let server = Server::start();
    let client = server.client;
    for bad in [
        "",
        "{",
        "[]",
        "null",
        "{}",
        r#"{"title":"T","price":1}"#,
        r#"{"title":"","price":1,"thumbnail":"http://a"}"#,
        r#"{"title":"¡!","price":1,"thumbnail":"http://a"}"#,
        r#"{"title":1,"price":1,"thumbnail":"http://a"}"#,
        r#"{"title":"T","price":-1,"thumbnail":"http://a"}"#,
        r#"{"title":"T","price":"1,5","thumbnail":"http://a"}"#,
        r#"{"title":"T","price":null,"thumbnail":"http://a"}"#,
        r#"{"title":"T","price":1e400,"thumbnail":"http://a"}"#,
        r#"{"title":"T","price":1,"thumbnail":"a.png"}"#,
        r#"{"title":"T","price":1,"thumbnail":"javascript:alert(1)"}"#,
        r#"{"title":"T","price":1,"thumbnail":"http://a b"}"#,
    ] {
        client.json("POST", "/api/productos", bad).is(400, BAD_VALUES);
    }
    client.send("POST", "/api/productos", &[("content-type", "text/plain")], TECLADO.as_bytes()).is(400, BAD_VALUES);
    client.get("/api/productos").is(200, "[]");
    let made = client.form("POST", "/api/productos", "title=%C3%91and%C3%BA&price=007.005&thumbnail=ftp%3A%2F%2Fa%2Fb");
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(made.json()["newProduct"]["price"].to_string(), "7.01");
    let path = format!("/api/productos/{}", id_of(&made.json()["newProduct"]));
    client.json("PUT", &path, "{}").is(400, r#"{"error":"No hay campos válidos para actualizar"}"#);
    client.json("PUT", &path, r#"{"title":"","x":1}"#).is(400, r#"{"error":"No hay campos válidos para actualizar"}"#);
    client.json("PUT", &path, r#"{"title":"T","price":"-3"}"#).is(400, BAD_VALUES);
    client.json("PUT", &path, "{").is(400, BAD_VALUES);
    // The empty string alone leaves a field as it is; taken for one, a slip of the keyboard would be answered as a success.
    for blank in [r#"{"title":"  ","price":1}"#, r#"{"price":" "}"#, r#"{"thumbnail":"\t\n","price":1}"#] {
        client.json("PUT", &path, blank).is(400, BAD_VALUES);
    }
    client.form("PUT", &path, "title=+&price=1").is(400, BAD_VALUES);
    let put = client.json("PUT", &path, r#"{"title":" T ","price":"","thumbnail":" http://a "}"#);
    let product = &put.json()["updateProduct"];
    assert_eq!((&product["title"], &product["thumbnail"]), (&"T".into(), &"http://a".into()), "{product}");
    assert_eq!(product["price"].to_string(), "7.01");
    for bad in ["a.b", "a%20b", "%C3%B1", "a%2Fb", "%00", "a%ff"] {
        for method in ["GET", "PUT", "DELETE"] {
            let reply = client.json(method, &format!("/api/productos/{bad}"), r#"{"price":1}"#);
            reply.is(400, r#"{"error":"El parámetro no es válido"}"#);
        }
    }
    for good in ["a-b", "62c1f0e5a1b2c3d4e5f60718", "__", "-"] {
        client.get(&format!("/api/productos/{good}")).is(404, NOT_FOUND);
    }
}

/// The old server read everything into memory for each call; a page at a time must still be one valid array in order.
#[test]
fn a_list_of_several_pages_is_one_array() {
    const PRODUCTS: usize = 1_203;
    let server = Server::start();
    let client = server.client;
    for first in (0..PRODUCTS).step_by(401) {
        let operations: Vec<String> = (first..first + 401)
            .map(|n| {
                format!(
                    r#"{{"op":"create","collection":"products","document":{{"id":"p{n}","title":"T","price":{n}}}}}"#
                )
            })
            .collect();
        let made = client.json("POST", "/v1/batch", &format!(r#"{{"operations":[{}]}}"#, operations.join(",")));
        assert_eq!(made.status, 200, "{}", made.text());
    }
    let list = client.get("/api/productos").json();
    let ids: Vec<_> = list.as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids, (0..PRODUCTS).map(|n| format!("p{n}")).collect::<Vec<_>>());
}

#[test]
fn the_mock_is_five_products_that_are_stored_nowhere() {
    let server = Server::start();
    let client = server.client;
    for path in ["/api/productos-test", "/api/productos-test/"] {
        let mock = client.get(path).json();
        let mock = mock.as_array().unwrap();
        assert_eq!(mock.len(), 5);
        for (index, product) in mock.iter().enumerate() {
            let keys: Vec<_> = product.as_object().unwrap().keys().map(String::as_str).collect();
            assert_eq!(keys, ["id", "title", "price", "thumbnail"], "{product}");
            assert_eq!(product["id"], index + 1);
            assert!(!product["title"].as_str().unwrap().is_empty());
            let (whole, cents) = product["price"].as_str().unwrap().split_once('.').unwrap();
            assert!(whole.parse::<u32>().is_ok() && cents.len() == 2, "{product}");
            assert!(product["thumbnail"].as_str().unwrap().starts_with("http"), "{product}");
        }
    }
    client.get("/api/productos").is(200, "[]");
}

#[test]
fn unknown_paths_and_methods_answer_as_the_shop_did() {
    let server = Server::start();
    let client = server.client;
    for (method, path) in [
        ("GET", "/api"),
        ("GET", "/api/x"),
        ("PATCH", "/api/productos"),
        ("POST", "/api/productos/1"),
        ("DELETE", "/api/x/y/z?q=1"),
    ] {
        let bare = path.split('?').next().unwrap();
        let body = format!(r#"{{"error":-2,"descripcion":"ruta '{bare}' método '{method}' no implementada"}}"#);
        client.send(method, path, &[], b"").is(404, &body);
    }
}

#[test]
fn the_status_is_that_of_the_task_server() {
    let server = Server::start();
    for path in ["/api/status", "/api/status/"] {
        let status = server.client.get(path);
        let time = status.json()["time"].as_str().unwrap().to_owned();
        assert!(time.len() == 24 && time.starts_with("20") && time.ends_with('Z'), "{time}");
        status.is(
            200,
            &format!(
                r#"{{"time":"{time}","service":"Servidor HTTP - Generic task server","status":"OK","message":"Servidor funcionando correctamente"}}"#
            ),
        );
    }
}
