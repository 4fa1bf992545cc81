use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;
use sluicegate_plugin::testing::{
    EditRefusal, Kept, TestHost, apply, budget, chat, image, message, request, text, tool_call,
    tool_result, windowed,
};

use super::*;

fn compressor(config: serde_json::Value) -> TopK {
    let Ok(compressor) = TopK::new(serde_json::from_value(config).unwrap()) else {
        panic!("the config is valid")
    };
    compressor
}

fn edits(config: serde_json::Value, request: &Request) -> Vec<Edit> {
    compressor(config)
        .compress(request, &budget(), &TestHost::new(request))
        .unwrap()
}

/// What is left, checked by the host's rules.
fn left(config: serde_json::Value, request: &Request) -> Result<Vec<Kept>, EditRefusal> {
    apply(request, &edits(config, request))
}

/// The first message's text after the cuts.
fn first_left(config: serde_json::Value, first: &str, question: &str) -> String {
    let request = chat(&[(Role::System, first), (Role::User, question)]);
    left(config, &request).unwrap()[0].texts.join("\n")
}

fn top(terms: usize, chunks: usize) -> serde_json::Value {
    json!({"top_terms": terms, "top_chunks": chunks})
}

#[test]
fn every_form_of_a_term_list_keeps_the_best_in_order() {
    for list in [
        "<terms>\n<term name=\"ibex\">a goat</term>\n<term name=\"otter\">swims</term>\n\
         <term name=\"yak\">has long hair</term>\n</terms>",
        "## Glossary\n\n| Term | Meaning |\n|---|---|\n| ibex | a goat |\n| otter | swims |\n\
         | yak | has long hair |\n",
        "| Term | Meaning |\n|---|---|\n| ibex | a goat |\n| otter | swims |\n| yak | has long hair |\n",
        "Terminology:\n- **ibex** — a goat\n- **otter** — swims\n- **yak** — has long hair\n",
        "Glossaire :\nibex: a goat\notter: swims\nyak: has long hair\n",
        "**Terms**\n* ibex - a goat\n* otter - swims\n* yak - has\n  long hair\n",
        "[{\"term\": \"ibex\", \"definition\": \"a goat\"}, {\"term\": \"otter\", \"definition\": \
         \"swims\"}, {\"term\": \"yak\", \"definition\": \"has long hair\"}]",
    ] {
        let prompt = format!("Be brief.\n\n{list}\n\nAnswer in French.");
        let after = first_left(top(2, 3), &prompt, "How does a yak differ from an ibex?");
        assert!(
            after.contains("a goat") && after.contains("long hair"),
            "{after}"
        );
        assert!(!after.contains("swims"), "{after}");
        assert!(after.find("ibex") < after.find("yak"), "{after}");
        assert!(
            after.starts_with("Be brief.\n\n") && after.ends_with("Answer in French."),
            "{after}"
        );
    }
}

#[test]
fn every_form_of_passages_keeps_the_best_in_order() {
    for list in [
        "<document title=\"Ibex\">Lives on rocks.</document>\n\
         <document title=\"Otter\">Lives in rivers.</document>\n\
         <document title=\"Yak\">Lives in Tibet.</document>\n",
        "<context>\n<doc>The ibex: lives on rocks.</doc><doc>The otter: Lives in rivers.</doc>\
         <doc>The yak: Lives in Tibet.</doc></context>\n",
        "### Document 1: Ibex\n\nLives on rocks.\n\n### Document 2: Otter\n\nLives in rivers.\n\n\
         ### Document 3: Yak\n\nLives in Tibet.\n\n# Rules\n",
        "## Documents\n\n### Ibex\nLives on rocks.\n\n### Otter\nLives in rivers.\n\n### Yak\n\
         Lives in Tibet.\n\n## Rules\n",
        "[1] Ibex\nLives on rocks.\n\n[2] Otter\nLives in rivers.\n\n[3] Yak\nLives in Tibet.\n\n",
        "Sources:\n- Ibex: lives on rocks.\n- Otter: Lives in rivers.\n- Yak: Lives in Tibet.\n\n",
        "{\"title\": \"Ibex\", \"text\": \"Lives on rocks.\"}\n{\"title\": \"Otter\", \"text\": \
         \"Lives in rivers.\"}\n{\"title\": \"Yak\", \"text\": \"Lives in Tibet.\"}\n",
    ] {
        let prompt = format!("Use the documents.\n\n{list}Be brief.");
        let after = first_left(top(15, 2), &prompt, "Do the ibex and the yak meet?");
        assert!(
            after.contains("ocks.") && after.contains("Tibet"),
            "{list} became {after}"
        );
        assert!(!after.contains("rivers"), "{list} became {after}");
        assert!(after.find("ocks.") < after.find("Tibet"), "{after}");
        assert!(
            after.starts_with("Use the documents.\n\n") && after.ends_with("Be brief."),
            "{after}"
        );
    }
}

#[test]
fn a_json_array_stays_valid_whatever_goes() {
    let names = ["ibex", "otter", "yak", "mole", "heron"];
    let objects: Vec<_> = names
        .iter()
        .map(|name| json!({"title": name, "meta": {"tags": ["a", "b]"]}, "text": format!("{name} \"x\" }}")}))
        .collect();
    for array in [
        serde_json::to_string(&objects),
        serde_json::to_string_pretty(&objects),
    ] {
        let array = array.unwrap();
        for keep in 1_u32..32 {
            let wanted: Vec<_> = (0..5)
                .filter(|bit| keep & (1 << bit) != 0)
                .map(|bit| names[bit])
                .collect();
            let question = format!("Compare: {}", wanted.join(" and "));
            let after = first_left(top(15, wanted.len()), &array, &question);
            let parsed: Vec<serde_json::Value> = serde_json::from_str(&after).unwrap();
            let titles: Vec<_> = parsed
                .iter()
                .map(|entry| entry["title"].as_str().unwrap())
                .collect();
            assert_eq!(titles, wanted, "{after}");
        }
    }
}

#[test]
fn a_named_term_leads_to_the_passage_that_its_definition_means() {
    let prompt = "Glossary:\n- Onyx Tower: code name of Hungary\n- Blue Gate: code name of Peru\n\n\
        <doc title=\"Peru\">Peru sent four physicists.</doc>\n\
        <doc title=\"Hungary\">Hungary sent seven of them.</doc>\n\
        <doc title=\"Physicists\">Physicists are sent everywhere.</doc>\n";
    let after = first_left(top(1, 1), prompt, "How many were sent by Onyx Tower?");
    assert!(
        after.contains("seven") && !after.contains("four"),
        "{after}"
    );
    assert!(
        after.contains("Onyx Tower") && !after.contains("Blue Gate"),
        "{after}"
    );
}

#[test]
fn a_passage_named_by_the_best_one_comes_along() {
    let prompt = "<doc title=\"Night Song\">Night Song is a single by Mara Lind.</doc>\
        <doc title=\"Record\">A single is a short record.</doc>\
        <doc title=\"Mara Lind\">Born in Oslo.</doc>";
    let after = first_left(
        top(15, 2),
        prompt,
        "Where was the artist of the single Night Song born?",
    );
    assert!(
        after.contains("Oslo") && after.contains("by Mara Lind"),
        "{after}"
    );
}

#[test]
fn scripts_without_spaces_are_ranked_too() {
    let prompt = "<doc>森林砍伐率在2000到2005年上升。</doc><doc>这座城市有三条河流。</doc>\
        <doc>博物馆星期一不开放。</doc>";
    let after = first_left(top(15, 1), prompt, "森林砍伐率是多少？");
    assert!(
        after.contains("森林") && !after.contains("河流") && !after.contains("博物馆"),
        "{after}"
    );
}

#[test]
fn equal_scores_keep_what_stands_first_and_say_why() {
    let prompt = "<doc>one</doc><doc>two</doc><doc>three</doc><doc>one</doc>";
    let request = chat(&[(Role::System, prompt), (Role::User, "Anything new?")]);
    let reasons: Vec<_> = edits(top(15, 2), &request)
        .iter()
        .map(|edit| (edit.kind, edit.reason))
        .collect();
    assert_eq!(reasons.len(), 2);
    assert!(reasons.contains(&(Kind::Chunk, Reason::Irrelevant)));
    assert!(reasons.contains(&(Kind::Chunk, Reason::Duplicate)));
    let after = first_left(top(15, 2), prompt, "Anything new?");
    assert_eq!(after, "<doc>one</doc><doc>two</doc>");
}

#[test]
fn the_requests_own_entries_go_as_parts() {
    let entry = |content: &str, origin| match text(content) {
        Part::Text(text) => Part::Text(sluicegate_plugin::Text { origin, ..text }),
        other => other,
    };
    let request = request(vec![
        message(
            Role::System,
            vec![
                entry("ibex: a goat", Origin::Term),
                entry("otter: swims", Origin::Term),
                entry("The ibex lives on rocks.", Origin::Chunk),
                entry("The otter lives in rivers.", Origin::Chunk),
            ],
        ),
        message(Role::User, vec![text("Where does the ibex live?")]),
    ]);
    let left = left(top(1, 1), &request).unwrap();
    assert_eq!(left[0].texts, ["ibex: a goat", "The ibex lives on rocks."]);
}

#[test]
fn the_question_and_what_is_locked_stay_whole() {
    let docs = "<doc>ibex</doc><doc>otter</doc><doc>yak</doc>";
    let question = format!("{docs}\n\nWhat about the yak?");
    let request = chat(&[(Role::System, docs), (Role::User, &question)]);
    let after = left(top(15, 1), &request).unwrap();
    assert_eq!(after[1].texts, [question.as_str()]);
    let mut open = chat(&[
        (Role::System, "<doc>mole</doc><doc>heron</doc>"),
        (Role::User, &question),
    ]);
    open.messages[0].locked = true;
    open.messages[1].locked = false;
    let after = left(top(15, 1), &open).unwrap();
    assert_eq!(after[0].texts, ["<doc>mole</doc><doc>heron</doc>"]);
    assert_eq!(after[1].texts, ["<doc>yak</doc>\n\nWhat about the yak?"]);
}

#[test]
fn old_turns_go_beyond_a_number_and_the_rest_begins_with_a_user() {
    let mut turns = vec![(Role::System, "Be brief.")];
    for _ in 0..8 {
        turns.extend([
            (Role::User, "And then?"),
            (Role::Assistant, "Then came the next thing."),
        ]);
    }
    turns.push((Role::User, "Thanks. What was it?"));
    let after = left(json!({"history_messages": 5}), &chat(&turns)).unwrap();
    let roles: Vec<_> = after.iter().map(|kept| kept.role).collect();
    let (user, assistant) = (Role::User, Role::Assistant);
    assert_eq!(
        roles,
        [Role::System, user, assistant, user, assistant, user]
    );
}

#[test]
fn old_turns_go_beyond_a_budget_of_tokens() {
    let long = "word ".repeat(400);
    let turns = [
        (Role::User, long.as_str()),
        (Role::Assistant, "Yes."),
        (Role::User, "Really?"),
        (Role::Assistant, "Yes."),
        (Role::User, "Why?"),
    ];
    let indices = |tokens: u32| {
        let after = left(json!({"history_tokens": tokens}), &chat(&turns)).unwrap();
        after.iter().map(|kept| kept.index).collect::<Vec<_>>()
    };
    assert_eq!(indices(2_048), [0, 1, 2, 3, 4]);
    assert_eq!(indices(100), [2, 3, 4]);
    assert_eq!(indices(0), [4]);
}

#[test]
fn a_turn_with_a_kept_passage_is_not_history() {
    let docs = format!("{}<doc>yak</doc>", "<doc>otter</doc>".repeat(3));
    let turns = [
        (Role::User, docs.as_str()),
        (Role::Assistant, "I see."),
        (Role::User, "The yak?"),
    ];
    let after = left(
        json!({"history_messages": 0, "top_chunks": 1}),
        &chat(&turns),
    )
    .unwrap();
    assert_eq!(after[0].texts, ["<doc>yak</doc>"]);
    assert_eq!(after.len(), 2);
}

#[test]
fn tool_calls_go_with_their_results_or_stay() {
    let turns = |with_result: bool| {
        let mut messages = vec![
            message(Role::User, vec![text("How many?")]),
            message(Role::Assistant, vec![tool_call("c1", "count")]),
        ];
        if with_result {
            messages.push(message(Role::Tool, vec![tool_result("c1", "count", "42")]));
        }
        messages.push(message(Role::User, vec![text("Thanks.")]));
        request(messages)
    };
    let none = json!({"history_messages": 0});
    let indices = |request: &Request| {
        let after = left(none.clone(), request).unwrap();
        after.iter().map(|kept| kept.index).collect::<Vec<_>>()
    };
    assert_eq!(indices(&turns(true)), [3]);
    assert_eq!(
        indices(&turns(false)),
        [1, 2],
        "a call that waits for its result stays"
    );
}

#[test]
fn messages_with_pictures_stay() {
    let request = request(vec![
        message(Role::User, vec![text("Look."), image("image/png")]),
        message(Role::Assistant, vec![text("Nice.")]),
        message(Role::User, vec![text("Thanks.")]),
    ]);
    let after = left(json!({"history_messages": 0}), &request).unwrap();
    assert_eq!(
        after.iter().map(|kept| kept.index).collect::<Vec<_>>(),
        [0, 2]
    );
}

#[test]
fn sentences_that_the_instructions_repeat_go() {
    let prompt = "Always answer in French, please. Never guess a number. Ok.\n\
        ALWAYS answer in French,  please. Ok.\n```\nlet value = compute(1);\nlet value = compute(1);\n```\n";
    let after = first_left(json!({}), prompt, "Why?");
    assert_eq!(after.matches("French").count(), 1, "{after}");
    assert_eq!(after.matches("Ok.").count(), 2, "short ones stay: {after}");
    assert_eq!(after.matches("compute").count(), 2, "code stays: {after}");
    let kept = first_left(json!({"drop_repetitions": false}), prompt, "Why?");
    assert_eq!(kept, prompt);
}

#[test]
fn plain_prompts_stay_as_they_are() {
    for prompt in [
        "You are a helpful assistant. Answer in three sentences.",
        "Rules:\n- Be brief.\n- Be kind.\n- Cite sources.\n- Use metric units.\n",
        "See [1] and [2].",
        "{\"not\": \"closed\", [[[",
        "<doc>never closed",
    ] {
        assert_eq!(first_left(top(1, 1), prompt, "What is new?"), prompt);
    }
    let bare = chat(&[(Role::System, "<doc>a</doc><doc>b</doc>")]);
    assert!(
        edits(top(1, 1), &bare).is_empty(),
        "no question, nothing to rank by"
    );
}

#[test]
fn a_tight_budget_cuts_what_the_question_does_not_meet() {
    let prompt = "<doc>yak</doc><doc>otter</doc><doc>mole</doc>";
    let request = chat(&[(Role::System, prompt), (Role::User, "The yak?")]);
    let tight = Budget {
        target_tokens: Some(5),
        ..budget()
    };
    let host = TestHost::new(&request);
    let edits = compressor(json!({}))
        .compress(&request, &tight, &host)
        .unwrap();
    assert_eq!(edits.len(), 2);
    assert!(edits.iter().all(|edit| edit.reason == Reason::OverBudget));
}

#[test]
fn texts_shown_in_part_are_read_whole() {
    let filler = "<doc>otter otter otter otter otter otter</doc>".repeat(200);
    let prompt = format!("{filler}<doc>The yak lives in Tibet.</doc>");
    let whole = chat(&[
        (Role::System, &prompt),
        (Role::User, "Where does the yak live?"),
    ]);
    let host = TestHost::new(&whole);
    let edits = compressor(top(15, 1))
        .compress(&windowed(&whole, 64, 0), &budget(), &host)
        .unwrap();
    let after = apply(&whole, &edits).unwrap();
    assert_eq!(after[0].texts, ["<doc>The yak lives in Tibet.</doc>"]);
}

#[test]
fn patterns_can_be_configured() {
    let config = json!({"top_chunks": 1, "top_terms": 1, "chunk_tags": ["wiki-page"], "term_headings": ["Lexique"]});
    let prompt = "Lexique:\n- ibex: a goat\n- yak: hair\n\n<wiki-page>ibex</wiki-page><wiki-page>yak</wiki-page>";
    let after = first_left(config, prompt, "The yak?");
    assert_eq!(after, "Lexique:\n- yak: hair\n\n<wiki-page>yak</wiki-page>");
}

#[test]
fn every_fault_of_a_config_is_named_at_once() {
    let config =
        json!({"top_terms": 0, "top_chunks": 2000, "term_tags": ["a b", "ok"], "chunk_tags": [""]});
    let issues = TopK::new(serde_json::from_value(config).unwrap())
        .err()
        .unwrap();
    let paths: Vec<_> = issues.iter().map(|issue| issue.path.as_str()).collect();
    assert_eq!(
        paths,
        ["/top_terms", "/top_chunks", "/term_tags/0", "/chunk_tags/0"]
    );
}

#[test]
fn the_schema_and_the_type_agree() {
    let schema: serde_json::Value =
        serde_json::from_str(include_str!("config.schema.json")).unwrap();
    let mut defaults = serde_json::Map::new();
    for (name, property) in schema["properties"].as_object().unwrap() {
        defaults.insert(name.clone(), property["default"].clone());
    }
    let typed: Config = serde_json::from_value(defaults.into()).unwrap();
    assert_eq!(format!("{typed:?}"), format!("{:?}", Config::default()));
}

/// Pieces of prompts, whole and torn, in any order.
fn prompt() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("<doc title=\"a\">".to_owned()),
        Just("</doc>".to_owned()),
        Just("<term>".to_owned()),
        Just("</term>\n".to_owned()),
        Just("## Documents\n".to_owned()),
        Just("### Source 1: x\n".to_owned()),
        Just("Glossary:\n".to_owned()),
        Just("- a: b\n".to_owned()),
        Just("| Term | x |\n|--|--|\n".to_owned()),
        Just("| é | 你好 |\n".to_owned()),
        Just("[1] a\n".to_owned()),
        Just("[{\"text\": \"é\"}, ".to_owned()),
        Just("{\"text\": \"\\\"}\"}]".to_owned()),
        Just("{\"text\": 1}\n".to_owned()),
        Just("\n\n".to_owned()),
        Just("Say it again, and again. ".to_owned()),
        Just("同じ文を二度も三度も繰り返して書くことはない。".to_owned()),
        "\\PC{0,12}",
    ];
    vec(piece, 0..16).prop_map(|pieces| pieces.concat())
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::System), Just(Role::User), Just(Role::Assistant)]
}

#[test]
fn question_of_passages_alone_is_left_whole() {
    let mut request = chat(&[
        (Role::System, "<doc title=\"a\"></doc>"),
        (Role::User, "c"),
        (Role::User, "## Documents\n## Documents\n"),
    ]);
    request
        .messages
        .iter_mut()
        .for_each(|message| message.locked = false);
    let config = json!({"top_terms": 1, "top_chunks": 1, "history_messages": 0});
    let edits = edits(config, &request);
    assert!(apply(&request, &edits).is_ok(), "{edits:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn any_prompt_gets_edits_that_the_host_takes(
        turns in vec((role(), prompt()), 1..8),
        history in 0_usize..4,
        is_open in any::<bool>(),
    ) {
        let turns: Vec<_> = turns.iter().map(|(role, text)| (*role, text.as_str())).collect();
        let mut request = chat(&turns);
        if is_open {
            request.messages.iter_mut().for_each(|message| message.locked = false);
        }
        let config = json!({"top_terms": 1, "top_chunks": 1, "history_messages": history});
        let edits = edits(config, &request);
        if let Err(refusal) = apply(&request, &edits) {
            prop_assert!(false, "{refusal}: {edits:?}");
        }
    }
}
