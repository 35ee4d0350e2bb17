//! Texts become objects, and errors that say where.

#![allow(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]

use serde_json::{Value, json};
use signalbox_policy::parse_documents;

/// The names of the objects, or `document:line:column` of the errors.
fn read(text: &str) -> Vec<String> {
    parse_documents(text, "test.yaml")
        .into_iter()
        .map(|result| match result {
            Ok(value) => {
                let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or("-").to_owned();
                format!("{} {}", text("/kind"), text("/metadata/name"))
            }
            Err(error) => format!("{}:{}:{}", error.document, error.line, error.column),
        })
        .collect()
}

#[test]
fn an_array_of_objects_is_a_list_of_them() {
    let pod = |name: &str| json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}});
    assert_eq!(read(&json!([pod("a"), pod("b")]).to_string()), ["Pod a", "Pod b"]);
    assert_eq!(read("- {apiVersion: v1, kind: Pod, metadata: {name: a}}\n"), ["Pod a"]);
    // Anything else in it, and it is somebody else's.
    for other in [json!([pod("a"), 1]), json!([pod("a"), {"kind": "Pod"}]), json!([[pod("a")]]), json!([])] {
        assert_eq!(read(&other.to_string()), ["1:1:1"], "{other}");
    }
}

#[test]
fn documents_are_told_apart() {
    let object = "kind: Pod\nmetadata: {name: a}\n";
    let other = "kind: Pod\nmetadata: {name: b}\n";
    for (text, expected) in [
        (String::new(), vec![]),
        ("\n# nothing\n---\n---\n...\n".to_owned(), vec![]),
        (object.to_owned(), vec!["Pod a"]),
        (format!("---\n{object}"), vec!["Pod a"]),
        (format!("# a comment\n---\n{object}---\n{other}"), vec!["Pod a", "Pod b"]),
        (format!("{object}---\n---\n# empty\n---\n{other}---\n"), vec!["Pod a", "Pod b"]),
        (format!("{object}...\n---\n{other}"), vec!["Pod a", "Pod b"]),
        (format!("--- # a comment\n{object}--- \n{other}"), vec!["Pod a", "Pod b"]),
        (format!("\u{feff}{object}"), vec!["Pod a"]),
        (format!("%YAML 1.2\n---\n{object}"), vec!["Pod a"]),
        ("--- {kind: Pod, metadata: {name: a}}\n".to_owned(), vec!["Pod a"]),
        (object.replace('\n', "\r\n") + "---\r\n" + other, vec!["Pod a", "Pod b"]),
        // Not at the start of a line: part of a text.
        ("kind: Pod\nmetadata: {name: a}\nnote: |\n  ---\n  b\n".to_owned(), vec!["Pod a"]),
        ("null\n---\n~\n".to_owned(), vec![]),
    ] {
        assert_eq!(read(&text), expected, "{text:?}");
    }
}

#[test]
fn json_is_read_alone_in_a_row_and_between_yaml() {
    let a = json!({"kind": "Pod", "metadata": {"name": "a"}}).to_string();
    let b = json!({"kind": "Pod", "metadata": {"name": "b"}});
    let pretty = serde_json::to_string_pretty(&b).unwrap();
    assert_eq!(read(&a), ["Pod a"]);
    assert_eq!(read(&format!("{a}\n{pretty}\n")), ["Pod a", "Pod b"]);
    assert_eq!(read(&format!("{a}\n---\nkind: Pod\nmetadata: {{name: c}}\n")), ["Pod a", "Pod c"]);
}

#[test]
fn lists_become_their_items() {
    let text = "
apiVersion: v1
kind: List
items:
  - {apiVersion: v1, kind: Pod, metadata: {name: a}}
  - {apiVersion: v1, kind: List, items: [{kind: Pod, metadata: {name: b}}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicyList
items:
  - {metadata: {name: c}}
---
apiVersion: v1
kind: List
items: []
";
    assert_eq!(read(text), ["Pod a", "Pod b", "NetworkPolicy c"]);
    let policy = parse_documents(text, "test").pop().unwrap().unwrap();
    assert_eq!(policy["apiVersion"], "networking.k8s.io/v1");
}

#[test]
fn one_bad_document_does_not_hide_the_others() {
    let text = "kind: Pod\nmetadata: {name: a}\n---\nkind: Pod\nmetadata: {name: b\n---\nkind: Pod\n bad: [\n---\nkind: Pod\nmetadata: {name: c}\n";
    let read = read(text);
    assert_eq!((read[0].as_str(), read[3].as_str()), ("Pod a", "Pod c"), "{read:?}");
    assert!(read[1].starts_with("2:") && read[2].starts_with("3:"), "{read:?}");
}

#[test]
fn errors_say_where_in_the_whole_text() {
    for (text, document, line, part) in [
        ("kind: Pod\n---\nkind: Pod\nmetadata:\n  name: a\n  labels: {app: a\nspec: {}\n", 2, 7, ""),
        ("# one\n# two\n---\nkind: Pod\nkind: Pod\n", 1, 5, "duplicate"),
        ("kind: Pod\n---\nspec:\n\tname: a\n", 2, 4, "tab"),
        ("kind: Pod\n---\nspec: 'open\n", 2, 3, ""),
        ("kind: Pod\n---\nspec: *nobody\n", 2, 3, "alias"),
        ("- a\n- b\n", 1, 1, "no object"),
        ("just text", 1, 1, "no object"),
        ("{\"kind\": \"Pod\",\n \"metadata\": \n", 1, 1, "unclosed"),
        ("{\"kind\": \"Pod\",\n \"spec\": {\"a\": 1, \"a\": 2}}\n", 1, 2, "duplicate"),
        ("a: b: c\n", 1, 1, ""),
    ] {
        let errors: Vec<_> = parse_documents(text, "test.yaml").into_iter().filter_map(Result::err).collect();
        assert_eq!(errors.len(), 1, "{text:?}: {errors:?}");
        let error = &errors[0];
        assert_eq!((error.document, error.line), (document, line), "{text:?}: {error}");
        assert!(error.column >= 1 && !error.reason.contains('\n') && !error.remedy.is_empty(), "{error:?}");
        assert!(error.reason.to_lowercase().contains(part), "{text:?}: {error}");
        let shown = error.to_string();
        assert!(shown.starts_with(&format!("test.yaml: document {document}, line {line}, column ")), "{shown}");
    }
}

#[test]
fn words_that_old_yaml_took_for_booleans_are_texts() {
    let values: Vec<Value> = parse_documents("{a: y, b: no, c: on, d: true, e: 'true', f: 080, g: 1e3}", "test")
        .into_iter()
        .map(|result| result.expect("sound"))
        .collect();
    let value = &values[0];
    assert_eq!((&value["a"], &value["b"], &value["c"]), (&json!("y"), &json!("no"), &json!("on")));
    assert_eq!((&value["d"], &value["e"]), (&json!(true), &json!("true")));
}

#[test]
fn absurd_texts_are_refused_quickly() {
    let started = std::time::Instant::now();
    // Nine levels of nine aliases each: some 400 million nodes.
    let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..9 {
        let before = vec![format!("*a{}", level - 1); 9].join(",");
        bomb.push_str(&format!("a{level}: &a{level} [{before}]\n"));
    }
    let deep = format!("a: {}1{}\n", "[".repeat(100_000), "]".repeat(100_000));
    let deep_json = format!("{{\"a\": {}1{}}}\n", "[".repeat(100_000), "]".repeat(100_000));
    let deep_blocks: String = (0..2_000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    let many = "---\n".repeat(signalbox_policy::documents::MAX_DOCUMENTS + 10);
    for (text, what) in
        [(&bomb, "aliases"), (&deep, "flow"), (&deep_json, "JSON"), (&deep_blocks, "blocks"), (&many, "documents")]
    {
        let results = parse_documents(text, "test");
        assert!(results.last().unwrap().is_err(), "{what}");
    }
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
}

#[test]
fn a_list_of_lists_of_lists_ends() {
    let mut value = json!({"kind": "Pod", "metadata": {"name": "a"}});
    for _ in 0..10 {
        value = json!({"kind": "List", "items": [value]});
    }
    assert!(parse_documents(&value.to_string(), "test")[0].is_err());
}
