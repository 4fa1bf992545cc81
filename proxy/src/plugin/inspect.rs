//! What a component is, read from its bytes and names before anything is linked or run.

use wasmtime::Engine;
use wasmtime::component::Component;

use super::error::LoadError;
use super::host::v0_1;
use crate::config::SlotKind;

/// The package of the contract.
const PACKAGE: &str = "sluicegate:plugin";

/// WASI packages that are linked, closed.
const WASI: [&str; 5] = [
    "wasi:cli",
    "wasi:io",
    "wasi:clocks",
    "wasi:random",
    "wasi:filesystem",
];

/// WASI packages that no plugin may import.
const FORBIDDEN: [&str; 2] = ["wasi:sockets", "wasi:http"];

/// Tells what is plainly no component, by the first bytes.
///
/// # Errors
/// [`LoadError::Empty`], [`LoadError::NotWasm`], [`LoadError::CoreModule`].
pub(super) fn sniff(bytes: &[u8]) -> Result<(), LoadError> {
    if bytes.is_empty() {
        return Err(LoadError::Empty);
    }
    // Component binary format: a magic number of four bytes, a version of two, and a layer of two,
    // 0 for a core module and 1 for a component.
    let Some((magic, rest)) = bytes.split_at_checked(4) else {
        return Err(LoadError::NotWasm);
    };
    if magic != b"\0asm" {
        return Err(LoadError::NotWasm);
    }
    match rest.get(2..4) {
        Some([0, 0]) => Err(LoadError::CoreModule),
        Some(_) => Ok(()),
        None => Err(LoadError::Malformed {
            detail: "it ends within its header".to_owned(),
        }),
    }
}

/// Checks a component's names against the slot's kind and what the host serves.
///
/// # Errors
/// [`LoadError::NoContract`], [`LoadError::UnknownVersion`], [`LoadError::WrongKind`],
/// [`LoadError::NoLifecycle`], [`LoadError::ForbiddenImport`], [`LoadError::UnknownImport`].
pub(super) fn names(
    component: &Component,
    engine: &Engine,
    kind: SlotKind,
) -> Result<(), LoadError> {
    let ty = component.component_type();
    let exports: Vec<String> = ty
        .exports(engine)
        .map(|(name, _)| name.to_owned())
        .collect();
    check_exports(&exports, kind)?;
    ty.imports(engine)
        .try_for_each(|(name, _)| check_import(name))
}

/// A name of the contract: interface and version.
fn of_contract(name: &str) -> Option<(&str, &str)> {
    let interface = name.strip_prefix(PACKAGE)?.strip_prefix('/')?;
    Some(interface.split_once('@').unwrap_or((interface, "")))
}

fn check_version(version: &str) -> Result<(), LoadError> {
    if version == v0_1::VERSION {
        return Ok(());
    }
    let found = if version.is_empty() {
        "without a version"
    } else {
        version
    };
    Err(LoadError::UnknownVersion {
        found: found.to_owned(),
        served: v0_1::VERSION,
    })
}

fn check_exports(exports: &[String], kind: SlotKind) -> Result<(), LoadError> {
    let ours: Vec<(&str, &str)> = exports
        .iter()
        .filter_map(|name| of_contract(name))
        .collect();
    if ours.is_empty() {
        return Err(LoadError::NoContract {
            exports: exports.to_vec(),
        });
    }
    for (_, version) in &ours {
        check_version(version)?;
    }
    let wanted = interface(kind);
    let has = |interface: &str| ours.iter().any(|(name, _)| *name == interface);
    if !has(wanted) {
        let stages = ours.iter().filter(|(name, _)| *name != "lifecycle");
        let found: Vec<String> = stages.map(|(name, _)| (*name).to_owned()).collect();
        return Err(LoadError::WrongKind { wanted, found });
    }
    if has("lifecycle") {
        Ok(())
    } else {
        Err(LoadError::NoLifecycle)
    }
}

fn check_import(name: &str) -> Result<(), LoadError> {
    if let Some((interface, version)) = of_contract(name) {
        check_version(version)?;
        return if v0_1::IMPORTS.contains(&interface) {
            Ok(())
        } else {
            Err(LoadError::UnknownImport {
                import: name.to_owned(),
            })
        };
    }
    let package = name.split_once('/').map_or(name, |(package, _)| package);
    if FORBIDDEN.contains(&package) {
        return Err(LoadError::ForbiddenImport {
            import: name.to_owned(),
        });
    }
    if WASI.contains(&package) {
        Ok(())
    } else {
        Err(LoadError::UnknownImport {
            import: name.to_owned(),
        })
    }
}

/// The interface that a stage calls.
fn interface(kind: SlotKind) -> &'static str {
    match kind {
        SlotKind::Classify => "classify",
        SlotKind::Compress => "compress",
        SlotKind::CachePolicy => "cache",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_tell_what_a_file_is() {
        let module = wat::parse_str("(module)").unwrap();
        let component = wat::parse_str("(component)").unwrap();
        assert!(matches!(sniff(b""), Err(LoadError::Empty)));
        assert!(matches!(
            sniff(b"\x7fELF\x02\x01\x01\0"),
            Err(LoadError::NotWasm)
        ));
        assert!(matches!(sniff(b"(component)"), Err(LoadError::NotWasm)));
        assert!(matches!(sniff(&module), Err(LoadError::CoreModule)));
        assert!(matches!(
            sniff(&component[..6]),
            Err(LoadError::Malformed { .. })
        ));
        assert!(sniff(&component).is_ok());
    }

    #[test]
    fn exports_tell_kind_and_version() {
        let check = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            check_exports(&names, SlotKind::Classify).map_err(|error| error.to_string())
        };
        let lifecycle = "sluicegate:plugin/lifecycle@0.1.0";
        assert_eq!(
            check(&[lifecycle, "sluicegate:plugin/classify@0.1.0"]),
            Ok(())
        );
        let refused = check(&["wasi:cli/run@0.2.6"]).unwrap_err();
        assert!(refused.contains("`wasi:cli/run@0.2.6`"), "{refused}");
        let refused = check(&["sluicegate:plugin/classify@0.3.0"]).unwrap_err();
        assert!(
            refused.contains("0.3.0") && refused.contains("0.1.0"),
            "{refused}"
        );
        let refused = check(&[lifecycle, "sluicegate:plugin/compress@0.1.0"]).unwrap_err();
        assert!(refused.contains("for `compress`") && refused.contains("for `classify`"));
        let refused = check(&["sluicegate:plugin/classify@0.1.0"]).unwrap_err();
        assert!(refused.contains("lifecycle"), "{refused}");
    }

    #[test]
    fn network_is_refused_by_name() {
        for import in ["wasi:sockets/tcp@0.2.0", "wasi:http/outgoing-handler@0.2.0"] {
            let refused = check_import(import).unwrap_err();
            assert!(
                matches!(refused, LoadError::ForbiddenImport { .. }),
                "{refused}"
            );
            assert!(refused.to_string().contains(import));
        }
        assert!(check_import("wasi:io/streams@0.2.6").is_ok());
        let refused = check_import("sluicegate:plugin/store@0.1.0").unwrap_err();
        assert!(matches!(refused, LoadError::UnknownImport { .. }));
        let refused = check_import("acme:db/query").unwrap_err();
        assert!(matches!(refused, LoadError::UnknownImport { .. }));
    }
}
