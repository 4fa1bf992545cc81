//! Wrong configs and the exact words for each: the inputs are files in `testdata/`.

use std::fs;
use std::path::Path;

use super::{load_with, two_workers, variable};
use crate::config::Severity;

/// Loads a file as `sluicegate check` does and gives what it prints.
fn rendered(name: &str) -> String {
    let path = format!("src/config/testdata/{name}.toml");
    let path = Path::new(&path);
    let text = fs::read_to_string(path).unwrap();
    let rendered = match load_with(&text, path, &two_workers(), &variable) {
        Ok(loaded) => loaded.warned().render(Severity::Warning, false),
        Err(problems) => problems.to_string(),
    };
    // The same wherever the repository lies.
    rendered.replace(concat!(env!("CARGO_MANIFEST_DIR"), "/"), "/path/to/")
}

macro_rules! wrong {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                insta::assert_snapshot!(stringify!($name), rendered(stringify!($name)));
            }
        )*

        /// A file without a test would prove nothing.
        #[test]
        fn every_file_has_its_test() {
            let tested = [$(stringify!($name)),*];
            let mut files: Vec<String> = fs::read_dir("src/config/testdata")
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
                .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
                .collect();
            files.sort();
            assert_eq!(files, tested);
        }
    };
}

wrong! {
    admin_without_token
    bad_certificates
    bad_headers
    bad_keys
    bad_names
    bad_server_certificates
    bad_units
    bad_urls
    contradictions
    duplicate_names
    empty
    fallback_repeats
    key_typed_twice
    keys_without_a_key
    listeners
    missing_fields
    not_toml
    open_to_the_network
    out_of_range
    pass_through_in_another_mode
    pass_through_incomplete
    plugin_limits
    plugin_sources
    secret_without_its_end_quote
    secrets_in_excerpts
    secrets_in_messages
    several_sections
    substitutions
    too_many_instances
    unknown_fields
    unknown_pools
    unknown_words
    values_that_toml_alone_has
    warnings
    warnings_in_open_mode
    wrong_types
}
