use std::sync::OnceLock;

use proptest::prelude::*;
use serde_json::json;
use sluicegate_plugin::testing::{
    TestHost, chat, image, message, request, text, tool_call, tool_result,
};
use sluicegate_plugin::{Media, Part};

use super::*;

fn classifier(config: serde_json::Value) -> KeywordClassifier {
    let Ok(classifier) = KeywordClassifier::new(serde_json::from_value(config).unwrap()) else {
        panic!("the config is valid")
    };
    classifier
}

fn opinion(config: serde_json::Value, request: &Request) -> Opinion {
    classifier(config)
        .classify(request, &TestHost::default())
        .unwrap()
}

fn label(config: serde_json::Value, text: &str) -> Option<String> {
    opinion(config, &chat(&[(Role::User, text)]))
        .label
        .map(|scored| scored.label)
}

/// Two labels of equal weight and nothing else.
fn two_labels() -> serde_json::Value {
    json!({"extend": false, "fallback": "", "labels": [
        {"name": "north", "keywords": {"ice": 1, "polar bear": 1}},
        {"name": "south", "keywords": {"penguin": 1, "ice": 1}},
    ]})
}

#[test]
fn each_label_of_the_table_is_found_in_several_languages() {
    let default = classifier(json!({}));
    for (expected, text) in [
        ("chat", "Merci, bonne soirée !"),
        ("chat", "Why do cats purr?"),
        ("code", "Write a Rust function that reverses a linked list."),
        ("code", "この関数のバグを直して"),
        ("math", "Berechne die Wahrscheinlichkeit für zwei Sechsen."),
        (
            "math",
            "A train covers 120 km in 2 hours and 60 km in 3. How many km per hour is that?",
        ),
        (
            "image_generation",
            "Draw me a lighthouse in a storm, oil painting",
        ),
        ("image_generation", "画一只戴帽子的猫"),
        ("video", "Make a ten second video of a sunrise over the sea"),
        ("video", "Crée une vidéo de deux chiens qui jouent"),
        ("avatar", "Create a talking avatar that welcomes our guests"),
        ("stt", "Please transcribe meeting.mp3"),
        (
            "tts",
            "Lis cette phrase à voix haute : le bateau part demain.",
        ),
        (
            "translation",
            "Translate to German: the boat leaves tomorrow",
        ),
        ("translation", "「船は明日出ます」を英語に翻訳してください"),
        ("summarization", "Résume ce texte en deux phrases."),
        ("summarization", "TL;DR of the following minutes, please"),
    ] {
        let opinion = default
            .classify(&chat(&[(Role::User, text)]), &TestHost::default())
            .unwrap();
        assert_eq!(opinion.label.unwrap().label, expected, "{text}");
    }
}

#[test]
fn a_tie_goes_to_the_label_that_stands_first() {
    assert_eq!(label(two_labels(), "ice").as_deref(), Some("north"));
    let mut swapped = two_labels();
    swapped["labels"].as_array_mut().unwrap().reverse();
    assert_eq!(label(swapped, "ice").as_deref(), Some("south"));
}

#[test]
fn several_matches_add_up_and_the_rest_are_runners_up() {
    let request = chat(&[(Role::User, "a penguin on the ice")]);
    let opinion = opinion(two_labels(), &request);
    assert_eq!(opinion.label.as_ref().unwrap().label, "south");
    assert_eq!(opinion.alternatives.len(), 1);
    assert_eq!(opinion.alternatives[0].label, "north");
    assert!(opinion.alternatives[0].confidence < opinion.label.unwrap().confidence);
}

#[test]
fn a_keyword_counts_once_however_often_it_stands_there() {
    let text = "ice ice ice ice, and a polar bear? penguin";
    let standing = classifier(two_labels()).weigh(&chat(&[(Role::User, text)]));
    let sum = |name: &str| {
        standing
            .sums()
            .iter()
            .find(|(label, _)| label == name)
            .unwrap()
            .1
    };
    assert!(
        (sum("north") - sum("south")).abs() < 0.5,
        "{:?}",
        standing.sums()
    );
}

#[test]
fn no_match_falls_back_or_abstains_and_is_counted() {
    let text = "Ὦ ξεῖν᾽";
    let config = json!({"fallback": "small-talk"});
    let host = TestHost::default();
    let opinion = classifier(config)
        .classify(&chat(&[(Role::User, text)]), &host)
        .unwrap();
    let given = opinion.label.unwrap();
    assert_eq!(given.label, "small-talk");
    assert!(given.confidence < 0.5);
    assert_eq!(host.measured(), [(FALLBACKS, 1.0)]);
    assert_eq!(label(json!({"fallback": ""}), text), None);
}

#[test]
fn words_are_found_whole_in_any_script() {
    for (keyword, text, found) in [
        ("rust", "Is Rust good?", true),
        ("rust", "I trust you", false),
        ("rust", "rusty", false),
        ("rust*", "rusty", true),
        ("été", "L’été arrive", true),
        ("été", "répétée", false),
        ("straße", "Die STRAßE!", true),
        ("привет", "Привет, мир", true),
        ("привет", "приветливый", false),
        ("翻译", "请翻译这句话", true),
        ("翻訳", "これを翻訳して", true),
        ("번역", "이것을 번역해 주세요", true),
        ("พระ", "วัดพระแก้ว", true),
        ("c++", "Teach me C++.", true),
        ("new york", "New\tYork", true),
        ("new york", "a newer york", false),
        ("a_b", "a_b_c", false),
    ] {
        let config = json!({"extend": false, "fallback": "", "labels": [
            {"name": "hit", "keywords": {keyword: 5}},
        ]});
        assert_eq!(label(config, text).is_some(), found, "{keyword} in {text}");
    }
}

#[test]
fn pieces_of_a_phrase_stand_in_order_and_near() {
    let config = || {
        json!({"extend": false, "fallback": "", "labels": [
            {"name": "hit", "keywords": {"make ... short ... film": 5}},
        ]})
    };
    assert!(label(config(), "Make a very short film").is_some());
    assert!(label(config(), "make make a short, short old film").is_some());
    assert!(label(config(), "a short film to make").is_none());
    let far = format!("make {} short film", "very ".repeat(12));
    assert!(label(config(), &far).is_none());
}

#[test]
fn the_last_user_message_outweighs_what_came_before() {
    let request = chat(&[
        (Role::System, "You are a Python programming assistant."),
        (
            Role::User,
            "Write a function in Python that sorts an array.",
        ),
        (Role::Assistant, "def f(a): return sorted(a)"),
        (
            Role::User,
            "Now translate this into Spanish: the sky is blue",
        ),
    ]);
    assert_eq!(
        opinion(json!({}), &request).label.unwrap().label,
        "translation"
    );
}

#[test]
fn material_counts_less_than_the_order_before_it() {
    let article =
        "The film studio will draw a picture, make a video and translate a python script. ";
    let text = format!("Summarize the article:\n\n{}", article.repeat(8));
    assert_eq!(label(json!({}), &text).as_deref(), Some("summarization"));
    let quoted = "Translate to French: \"Write a Python function, please\"";
    assert_eq!(label(json!({}), quoted).as_deref(), Some("translation"));
}

#[test]
fn pictures_sound_and_video_speak_for_themselves() {
    let with =
        |part: Part, words: &str| request(vec![message(Role::User, vec![text(words), part])]);
    let media = || Media {
        media_type: None,
        name: None,
        size: None,
    };
    let asked = opinion(json!({}), &with(image("image/png"), "Where is this?"));
    assert_eq!(asked.label.unwrap().label, "multimodal");
    assert_eq!(asked.modality, Some(Modality::Text));
    let edited = opinion(
        json!({}),
        &with(image("image/png"), "Remove the background, please"),
    );
    assert_eq!(edited.label.unwrap().label, "image_generation");
    assert_eq!(edited.modality, Some(Modality::Image));
    let heard = opinion(json!({}), &with(Part::Audio(media()), "Here you are."));
    assert_eq!(heard.label.unwrap().label, "stt");
    let moved = opinion(
        json!({}),
        &with(Part::Video(media()), "What happens at the end?"),
    );
    assert_eq!(moved.label.unwrap().label, "multimodal");
}

#[test]
fn tools_make_an_agent_but_not_of_small_talk() {
    let mut request = chat(&[(Role::User, "Add two tickets for Friday to my basket")]);
    request.tools = vec!["basket_add".to_owned(), "search_tickets".to_owned()];
    assert_eq!(opinion(json!({}), &request).label.unwrap().label, "agent");
    let mut request = chat(&[(Role::User, "Write a haiku about rain")]);
    request.tools = vec!["basket_add".to_owned()];
    assert_eq!(opinion(json!({}), &request).label.unwrap().label, "chat");
}

#[test]
fn a_tool_result_at_the_end_is_an_agent_at_work() {
    let request = request(vec![
        message(Role::User, vec![text("Is the shop open?")]),
        message(Role::Assistant, vec![tool_call("1", "hours")]),
        message(Role::Tool, vec![tool_result("1", "hours", "9-17")]),
    ]);
    let mut request = request;
    request.tools = vec!["hours".to_owned()];
    assert_eq!(opinion(json!({}), &request).label.unwrap().label, "agent");
}

#[test]
fn documents_beside_a_question_make_it_rag() {
    let request = chat(&[
        (
            Role::System,
            "<document id=\"1\">The tower was built in 1889.</document>",
        ),
        (Role::User, "When was the tower built?"),
    ]);
    assert_eq!(opinion(json!({}), &request).label.unwrap().label, "rag");
    let mut inserted = chat(&[
        (Role::System, "Opening hours: 9 to 17"),
        (Role::User, "When?"),
    ]);
    let Part::Text(entry) = &mut inserted.messages[0].parts[0] else {
        panic!("a text")
    };
    entry.origin = sluicegate_plugin::Origin::Chunk;
    assert_eq!(opinion(json!({}), &inserted).label.unwrap().label, "rag");
}

#[test]
fn complexity_grows_with_length_numbers_and_tools() {
    let complexity = |request: &Request| opinion(json!({}), request).complexity.unwrap();
    let short = complexity(&chat(&[(Role::User, "Hi")]));
    let long_text =
        "Given 12 towns and 30 roads, prove that each tour has a cheaper one. ".repeat(30);
    let mut request = chat(&[(Role::User, &long_text)]);
    let long = complexity(&request);
    request.tools = vec!["search".to_owned()];
    let with_tools = complexity(&request);
    assert!(0.0 < short && short < 0.3 && short < long && long < with_tools && with_tools < 1.0);
}

#[test]
fn reasons_are_given_when_someone_reads_them() {
    let mut request = chat(&[(Role::User, "a penguin on the ice")]);
    assert!(opinion(two_labels(), &request).reasons.is_empty());
    request.explain = true;
    let reasons = opinion(two_labels(), &request).reasons;
    let penguin = reasons
        .iter()
        .find(|reason| reason.contains("penguin"))
        .unwrap();
    assert!(penguin.starts_with("keyword \"penguin\" +1") && penguin.ends_with("`south`"));
    assert!(reasons.len() <= 16 && reasons.iter().all(|reason| reason.len() <= 256));
}

#[test]
fn own_labels_extend_the_table() {
    let config = json!({"labels": [
        {"name": "ticket", "keywords": {"invoice": 3}, "signals": {"question": 0.5}},
        {"name": "code", "keywords": {"frobnicate": 4, "python": 0}},
    ]});
    assert_eq!(
        label(config.clone(), "Where is my invoice?").as_deref(),
        Some("ticket")
    );
    assert_eq!(
        label(config.clone(), "frobnicate it").as_deref(),
        Some("code")
    );
    assert_eq!(
        label(config, "python").as_deref(),
        Some("chat"),
        "its weight is taken out"
    );
    assert_eq!(label(json!({}), "python").as_deref(), Some("code"));
}

#[test]
fn every_fault_of_a_config_is_named_at_once() {
    let config = json!({"threshold": 0, "fallback": "Chat!", "extend": false, "labels": [
        {"name": "a/b", "keywords": {"x/y": 1000}}, {"name": "c"}, {"name": "c"},
    ]});
    let issues = serde_json::from_value::<Config>(config)
        .unwrap()
        .rules()
        .unwrap_err();
    let paths: Vec<_> = issues.iter().map(|issue| issue.path.as_str()).collect();
    let expected = [
        "/threshold",
        "/fallback",
        "/labels/0/name",
        "/labels/0/keywords/x~1y",
        "/labels/2/name",
    ];
    assert_eq!(paths, expected);
    let config = json!({"labels": [{"name": "a", "keywords": {"make ... *": 1}}]});
    assert!(KeywordClassifier::new(serde_json::from_value(config).unwrap()).is_err());
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
    let rule = &schema["properties"]["labels"]["items"]["properties"];
    for signal in rule["signals"]["propertyNames"]["enum"].as_array().unwrap() {
        let signal: Signal = serde_json::from_value(signal.clone()).unwrap();
        assert!(
            serde_json::to_string(rule)
                .unwrap()
                .contains(&format!("\"{signal}\""))
        );
    }
    for answer in rule["answer"]["enum"].as_array().unwrap() {
        assert!(serde_json::from_value::<AnswerKind>(answer.clone()).is_ok());
    }
}

proptest! {
    #[test]
    fn any_text_gets_a_valid_opinion(words in "\\PC{0,400}", other in ".{0,80}") {
        static DEFAULT: OnceLock<KeywordClassifier> = OnceLock::new();
        let default = DEFAULT.get_or_init(|| classifier(json!({})));
        let mut request = chat(&[(Role::System, &other), (Role::User, &words)]);
        request.explain = true;
        request.tools = vec![other];
        let opinion = default.classify(&request, &TestHost::default()).unwrap();
        for scored in opinion.label.iter().chain(&opinion.alternatives) {
            prop_assert!((0.0..=1.0).contains(&scored.confidence));
        }
        prop_assert!(opinion.alternatives.len() <= 8 && opinion.reasons.len() <= 16);
        prop_assert!(opinion.reasons.iter().all(|reason| reason.len() <= 256));
        prop_assert!((0.0..=1.0).contains(&opinion.complexity.unwrap()));
    }
}
