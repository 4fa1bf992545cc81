//! Code generated from `wit/v0.1.0`. Four worlds stand in for the contract's three, so that
//! `lifecycle`, which each of those exports, is generated once; a component's own world is their
//! union, and so the same. Only the types named in the crate's root leave this module.

/// What every plugin imports, and `lifecycle`.
pub mod base {
    wit_bindgen::generate!({
        path: "../wit/v0.1.0",
        inline: "
            package sluicegate:sdk;
            world base {
                include sluicegate:plugin/imports@0.1.0;
                export sluicegate:plugin/lifecycle@0.1.0;
            }
        ",
        additional_derives: [PartialEq],
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_lifecycle",
    });
}

/// The stage `classify`.
pub mod classifier {
    wit_bindgen::generate!({
        path: "../wit/v0.1.0",
        inline: "
            package sluicegate:sdk;
            world classifier { export sluicegate:plugin/classify@0.1.0; }
        ",
        additional_derives: [PartialEq],
        with: { "sluicegate:plugin/types@0.1.0": super::base::sluicegate::plugin::types },
        pub_export_macro: true,
        export_macro_name: "export_classify",
    });
}

/// The stage `compress`.
pub mod compressor {
    wit_bindgen::generate!({
        path: "../wit/v0.1.0",
        inline: "
            package sluicegate:sdk;
            world compressor { export sluicegate:plugin/compress@0.1.0; }
        ",
        additional_derives: [PartialEq],
        with: { "sluicegate:plugin/types@0.1.0": super::base::sluicegate::plugin::types },
        pub_export_macro: true,
        export_macro_name: "export_compress",
    });
}

/// The stage `cache-policy`.
pub mod cache_policy {
    wit_bindgen::generate!({
        path: "../wit/v0.1.0",
        inline: "
            package sluicegate:sdk;
            world cache-policy { export sluicegate:plugin/cache@0.1.0; }
        ",
        additional_derives: [PartialEq],
        with: { "sluicegate:plugin/types@0.1.0": super::base::sluicegate::plugin::types },
        pub_export_macro: true,
        export_macro_name: "export_cache",
    });
}
