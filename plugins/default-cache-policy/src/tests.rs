use serde_json::json;
use sluicegate_plugin::testing::{TestHost, answer, chat, summary};
use sluicegate_plugin::{Header, Role};

use super::*;

fn policy(config: serde_json::Value) -> Policy {
    let Ok(policy) = Policy::new(serde_json::from_value(config).unwrap()) else {
        panic!("the config is valid")
    };
    policy
}

fn request() -> Request {
    chat(&[(Role::User, "What is a monad?")])
}

fn decide(policy: &Policy, request: &Request) -> Decision {
    policy
        .decide(request, &summary(), &TestHost::default())
        .unwrap()
}

fn bypass_reason(config: serde_json::Value, request: &Request) -> Option<String> {
    let decision = decide(&policy(config), request);
    assert_eq!(decision.lookup, decision.store);
    assert_eq!(decision.lookup, decision.reason.is_none());
    decision.reason
}

#[test]
fn by_default_equal_requests_of_a_tenant_share_an_answer_for_an_hour() {
    let mut request = request();
    request.parameters.temperature = Some(2.0);
    request.tools = vec!["delete_account".to_owned()];
    let decision = decide(&policy(json!({})), &request);
    assert_eq!(decision, Decision::cache(3_600, Scope::Tenant));
}

#[test]
fn answers_that_are_not_one_text_are_not_cached() {
    let cases: [fn(&mut Request); 3] = [
        |request| request.parameters.choices = 2,
        |request| request.parameters.audio_output = true,
        |request| request.parameters.stored = true,
    ];
    for change in cases {
        let mut request = request();
        assert_eq!(bypass_reason(json!({}), &request), None);
        change(&mut request);
        assert!(bypass_reason(json!({}), &request).is_some());
    }
}

#[test]
fn tools_with_side_effects_bypass_where_the_config_names_them() {
    let config = json!({"side_effect_tools": ["send_mail", "delete_*"]});
    let mut request = request();
    for (tool, bypassed) in [
        ("send_mail", true),
        ("send_mail_draft", false),
        ("delete_user", true),
        ("undelete_user", false),
    ] {
        request.tools = vec!["search".to_owned(), tool.to_owned()];
        assert_eq!(
            bypass_reason(config.clone(), &request).is_some(),
            bypassed,
            "{tool}"
        );
    }
}

#[test]
fn a_temperature_limit_takes_the_api_default_of_one() {
    let config = json!({"max_temperature": 0.5});
    let mut request = request();
    assert!(bypass_reason(config.clone(), &request).is_some());
    request.parameters.temperature = Some(0.5);
    assert_eq!(bypass_reason(config, &request), None);
}

#[test]
fn a_session_scope_needs_a_session() {
    let config = json!({"scope": "session"});
    let mut request = request();
    assert!(bypass_reason(config.clone(), &request).is_some());
    request.session = Some("s1".to_owned());
    assert_eq!(decide(&policy(config), &request).scope, Scope::Session);
}

#[test]
fn a_label_has_its_own_life() {
    let policy = policy(json!({"ttl_by_label": {"code": 60, "agent": 0}}));
    let ttl = |label: &str| {
        let summary = Summary {
            label: Some(label.to_owned()),
            ..summary()
        };
        let decision = policy
            .decide(&request(), &summary, &TestHost::default())
            .unwrap();
        decision.store.then_some(decision.ttl_seconds)
    };
    assert_eq!(ttl("code"), Some(60));
    assert_eq!(ttl("agent"), None);
    assert_eq!(ttl("chat"), Some(3_600));
}

#[test]
fn keys_take_texts_and_headers_and_leave_fields_out() {
    let policy = policy(json!({
        "key_parts": ["kb-7"], "key_headers": ["x-region"], "ignore": ["user", "seed"],
    }));
    let mut request = request();
    assert_eq!(decide(&policy, &request).key_parts, ["kb-7", "x-region"]);
    request.headers.push(Header {
        name: "x-region".to_owned(),
        value: "eu".to_owned(),
    });
    let decision = decide(&policy, &request);
    assert_eq!(decision.key_parts, ["kb-7", "x-region=eu"]);
    assert_eq!(decision.ignore, Ignorable::END_USER | Ignorable::SEED);
    request.headers[0].value = "x".repeat(250);
    assert!(
        !decide(&policy, &request).lookup,
        "a cut header would join strangers"
    );
}

#[test]
fn only_answers_that_came_to_their_end_are_stored() {
    let admits =
        |config, answer: &Answer| policy(config).admit(answer, &TestHost::default()).unwrap();
    for (finish, stored) in [
        (Finish::Stop, true),
        (Finish::ToolCalls, true),
        (Finish::Length, false),
        (Finish::Refusal, false),
        (Finish::Other, false),
    ] {
        assert_eq!(admits(json!({}), &answer(finish)), stored, "{finish:?}");
    }
    assert!(admits(
        json!({"store_cut_answers": true}),
        &answer(Finish::Length)
    ));
    let empty = Answer {
        text_bytes: 0,
        ..answer(Finish::Stop)
    };
    assert!(!admits(json!({}), &empty));
}

#[test]
fn vectors_are_stored_though_they_have_no_text() {
    let mut request = request();
    request.endpoint = Endpoint::Embeddings;
    let policy = policy(json!({}));
    let answer = Answer {
        text_bytes: 0,
        memo: decide(&policy, &request).memo,
        ..answer(Finish::Other)
    };
    assert!(policy.admit(&answer, &TestHost::default()).unwrap());
}

#[test]
fn every_fault_of_a_config_is_named_at_once() {
    let config = json!({
        "ttl_seconds": 0, "max_temperature": 3.0, "side_effect_tools": ["a*b"],
        "key_parts": ["1", "2", "3", "4", "5", "6", "7", "8"], "key_headers": ["x-a"],
    });
    let issues = Policy::new(serde_json::from_value(config).unwrap())
        .err()
        .unwrap();
    let paths: Vec<_> = issues.iter().map(|issue| issue.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "/ttl_seconds",
            "/max_temperature",
            "/side_effect_tools/0",
            "/key_parts"
        ]
    );
}

#[test]
fn the_schema_and_the_type_agree() {
    let schema: serde_json::Value =
        serde_json::from_str(include_str!("config.schema.json")).unwrap();
    let mut defaults = serde_json::Map::new();
    for (name, property) in schema["properties"].as_object().unwrap() {
        if let Some(default) = property.get("default") {
            defaults.insert(name.clone(), default.clone());
        }
    }
    let typed: Config = serde_json::from_value(defaults.into()).unwrap();
    assert_eq!(format!("{typed:?}"), format!("{:?}", Config::default()));
    let names = schema["properties"]["ignore"]["items"]["enum"].clone();
    assert_eq!(
        serde_json::from_value::<Vec<Field>>(names).unwrap().len(),
        7
    );
    for scope in schema["properties"]["scope"]["enum"].as_array().unwrap() {
        assert!(
            serde_json::from_value::<Config>(json!({"scope": scope})).is_ok(),
            "{scope}"
        );
    }
    assert!(serde_json::from_value::<Config>(json!({"ttl": 5})).is_err());
}
