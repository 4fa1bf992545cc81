//! A fault of shape is reported alone: neither does it hide what is known without the value, nor is
//! anything said that rests on it.

use toml::{Table, Value};

use super::{load_text, with};

/// Three configs whose values lean on each other wherever they can.
const CONFIGS: [&str; 3] = [
    r#"
        [server]
        listen = "0.0.0.0:80"
        workers = 3
        max_body_bytes = "1MiB"
        [auth]
        mode = "keys"
        grants = ["cache"]
        [[auth.keys]]
        name = "a"
        tenant = "t"
        key = "one"
        grants = ["route"]
        [[auth.keys]]
        name = "b"
        key_sha256 = "000000000000000000000000000000000000000000000000000000000000000f"
        [[models]]
        name = "m"
        context_length = 5
        capabilities = ["chat"]
        [[pools]]
        name = "main"
        models = ["m"]
        model_map = { m = "n" }
        api_key = "k"
        forward_headers = ["x-a"]
        health = { path = "/h", interval = "9s", timeout = "1s", unhealthy_after = 2 }
        [[pools.backends]]
        url = "https://host"
        name = "one"
        protocol = "h2"
        server_name = "host.example"
        [[pools.backends]]
        url = "https://host"
        name = "two"
        protocol = "h1"
        server_name = "host.example"
        [[pools]]
        name = "other"
        backends = [{ url = "http://127.0.0.1:1" }]
        [[routes]]
        name = "r"
        pool = "main"
        fallback = ["other"]
        fallback_on_429 = true
        attempts = 3
        commit = "head"
        defaults = { max_tokens = 50, temperature = 1, stop = ["x"] }
        caps = { max_tokens = 100 }
        timeouts = { first_token = "100s", total = "100s" }
        match = { label = ["a"], model = "m*", header = { x-a = "b" }, tenant = "t", tools = true }
        [cache]
        ttl = "40d"
        max_ttl = "50d"
        max_bytes = "1GiB"
        max_entry_bytes = "500MiB"
        [admin]
        listen = "0.0.0.0:9090"
        token = "t"
        [telemetry]
        listen = "0.0.0.0:9091"
        log_level = "warn"
        expose = "all"
        [pipeline]
        max_instances = 45
        max_memory_bytes = "128MiB"
        cache_policy = { enabled = false, may_ignore = ["model"], answer_bytes = 5 }
        [[pipeline.classify]]
        name = "c"
        source = "builtin:keyword-classifier"
        memory_bytes = "100MiB"
        spares = 4
        headers = ["x-a"]
        text = { head = 1, tail = 1 }
        grants = ["clock"]
        [[pipeline.compress]]
        name = "d"
        spares = 0
        cpu_time = "5ms"
        max_edits = 5
        on_failure = "deny"
    "#,
    r#"
        [server]
        listen = "0.0.0.0:80"
        [auth]
        mode = "open"
        open_to_network = true
        [[pools]]
        name = "main"
        backends = [{ url = "http://127.0.0.1:1" }]
        [admin]
        enabled = false
        listen = "0.0.0.0:80"
    "#,
    r#"
        [auth]
        mode = "pass_through"
        tenant_secret = "0123456789abcdef"
        [[pools]]
        name = "main"
        pass_through = true
        backends = [{ url = "http://127.0.0.1:1" }]
    "#,
];

/// Where a value stands: keys and places in lists.
type Path = Vec<String>;

fn paths(value: &Value, at: &Path, found: &mut Vec<Path>) {
    let below = |name: String| [at.as_slice(), &[name]].concat();
    match value {
        Value::Table(table) => {
            for (name, value) in table {
                found.push(below(name.clone()));
                paths(value, &below(name.clone()), found);
            }
        }
        Value::Array(items) => {
            for (place, item) in items.iter().enumerate() {
                found.push(below(place.to_string()));
                paths(item, &below(place.to_string()), found);
            }
        }
        Value::String(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::Boolean(_)
        | Value::Datetime(_) => {}
    }
}

fn parent<'a>(config: &'a mut Value, path: &[String]) -> &'a mut Value {
    let (_, parents) = path.split_last().unwrap();
    parents.iter().fold(config, |at, name| match at {
        Value::Array(items) => &mut items[name.parse::<usize>().unwrap()],
        table => &mut table[name.as_str()],
    })
}

fn replace(config: &mut Value, path: &[String], value: Value) {
    let name = path.last().unwrap();
    match parent(config, path) {
        Value::Array(items) => items[name.parse::<usize>().unwrap()] = value,
        table => table[name.as_str()] = value,
    }
}

/// The messages for a config.
fn errors(config: &Value) -> Vec<String> {
    match load_text(&toml::to_string(config).unwrap()) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.list().iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn a_value_of_the_wrong_shape_is_reported_alone() {
    let wrong = [
        Value::Array(vec![Value::Array(Vec::new())]),
        "1979-05-27"
            .parse::<toml::value::Datetime>()
            .unwrap()
            .into(),
    ];
    let mut tried = 0;
    for text in CONFIGS {
        let config = Value::Table(text.parse::<Table>().unwrap());
        assert_eq!(errors(&config), [""; 0]);
        let mut all = Vec::new();
        paths(&config, &Vec::new(), &mut all);
        for path in all {
            for value in &wrong {
                let mut broken = config.clone();
                replace(&mut broken, &path, value.clone());
                let errors = errors(&broken);
                assert_eq!(errors.len(), 1, "{path:?} = {value}: {errors:#?}");
                tried += 1;
            }
        }
    }
    assert!(tried > 200, "{tried}");
}

#[test]
fn a_misspelt_field_is_reported_without_what_follows_from_it() {
    for text in CONFIGS {
        let config = Value::Table(text.parse::<Table>().unwrap());
        let mut all = Vec::new();
        paths(&config, &Vec::new(), &mut all);
        for path in all {
            let mut broken = config.clone();
            let name = path.last().unwrap();
            let Value::Table(table) = parent(&mut broken, &path) else {
                continue;
            };
            let value = table.remove(name).unwrap();
            table.insert("qqqq".to_owned(), value);
            let errors = errors(&broken);
            let free = ["model_map", "header"].map(|table| path.contains(&table.to_owned()));
            if free.contains(&true) {
                continue; // any name goes there
            }
            let rest: Vec<&String> = errors
                .iter()
                .filter(|error| !error.contains("unknown field `qqqq`"))
                .filter(|error| !error.contains(&format!("missing field `{name}`")))
                .collect();
            assert!(
                rest.is_empty() && !errors.is_empty(),
                "{path:?}: {errors:#?}"
            );
        }
    }
}

#[test]
fn faults_of_shape_hide_no_other_error() {
    let text = with(
        "[[routes]]\npool = \"mian\"\nattempts = \"two\"\ndefaults = { max_tokens = 9 }\n\
         caps = { max_tokens = 3 }\n\
         [[routes]]\nfallback = [\"mian\"]\n\
         [cache]\nttl = \"2d\"\nmax_ttl = \"1d\"\nmax_entries = \"many\"\n\
         [[pools]]\nname = \"B\"\nmodels = 3\nbackends = [7, { url = \"ftp://h\" }]\n\
         [server]\nlisten = \"here\"\nworkers = 99999\nmax_body_bytes = 0\n",
    );
    insta::assert_snapshot!(load_text(&text).unwrap_err());
}
