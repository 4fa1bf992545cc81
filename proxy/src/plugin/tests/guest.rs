//! Guests for tests: core modules written as text, made components of the contract by its own WIT.
//!
//! One classifier does on command what a plugin may do wrong: the first letter of the request's
//! model says what. Layouts are those of the canonical ABI; the static memory below [`HEAP`] holds
//! all results, what the host hands over goes above it and is forgotten after each call.

use std::path::Path;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// Where the host's data goes.
const HEAP: u32 = 1 << 20;

/// A guest to be.
#[derive(Clone)]
pub(super) struct Guest {
    pub(super) name: &'static str,
    pub(super) version: &'static str,
    pub(super) schema: &'static str,
    pub(super) wants_clock: bool,
    /// One counter of this name and help.
    pub(super) counter: Option<(&'static str, &'static str)>,
    /// Its answer to an ordinary request.
    pub(super) label: &'static str,
    /// Body of `configure`, in place of a plain yes.
    pub(super) configure: Option<&'static str>,
    /// Body of `describe`, in place of the description.
    pub(super) describe: Option<&'static str>,
    /// Stage function that stands in for the classifier's.
    pub(super) stage: Option<Stage>,
    /// Core imports, as text.
    pub(super) imports: &'static str,
    /// Further items of the core module: tables, globals, functions.
    pub(super) items: &'static str,
    /// What the allocator does with `$size` before it serves; it may return an address.
    pub(super) realloc: &'static str,
    /// What the classifier's clean-up after a result does first.
    pub(super) post_return: &'static str,
    /// Further items of the world, and packages that it needs.
    pub(super) wit: &'static str,
    pub(super) packages: &'static [&'static str],
    /// Body for the command `z`.
    pub(super) extra: &'static str,
}

/// A stage's world, function and result area.
#[derive(Clone)]
pub(super) struct Stage {
    pub(super) world: &'static str,
    pub(super) functions: String,
    /// Placed at [`STAGE_RESULT`].
    pub(super) result: Vec<u8>,
}

/// Where a [`Stage`]'s result lies.
pub(super) const STAGE_RESULT: u32 = 0x9000;

/// Where the prepared error results of the classifier lie.
const UNSUPPORTED: u32 = 0x2000;
const INTERNAL: u32 = 0x2100;
const NOT_A_NUMBER: u32 = 0x2200;
const TOO_LARGE: u32 = 0x2300;
const PLAIN: u32 = 0x2400;
/// A `configure` that says no points here.
pub(super) const ISSUES: u32 = 0x2500;

impl Default for Guest {
    fn default() -> Self {
        Self {
            name: "test-guest",
            version: "1.0.0",
            schema: "",
            wants_clock: false,
            counter: None,
            label: "code",
            configure: None,
            describe: None,
            stage: None,
            imports: "",
            items: "",
            realloc: "",
            post_return: "",
            wit: "",
            packages: &[],
            extra: "unreachable",
        }
    }
}

/// Static memory in the making.
struct Memory {
    bytes: Vec<u8>,
    free: usize,
}

impl Memory {
    fn at(&mut self, address: u32, bytes: &[u8]) {
        let address = address as usize;
        self.bytes[address..address + bytes.len()].copy_from_slice(bytes);
    }

    fn words(&mut self, address: u32, words: &[u32]) {
        for (place, word) in (0..).zip(words) {
            self.at(address + place * 4, &word.to_le_bytes());
        }
    }

    /// Puts a string somewhere and gives pointer and length.
    fn string(&mut self, text: &str) -> [u32; 2] {
        let address = u32::try_from(self.free).unwrap();
        self.at(address, text.as_bytes());
        self.free += text.len().next_multiple_of(8);
        [address, u32::try_from(text.len()).unwrap()]
    }
}

const INFO: u32 = 0x400;
const LISTS: u32 = 0x500;

impl Guest {
    fn memory(&self) -> Vec<u8> {
        let mut memory = Memory {
            bytes: vec![0; 0x40000],
            free: 0x10000,
        };
        let name = memory.string(self.name);
        let version = memory.string(self.version);
        let description = memory.string("A guest of the tests.");
        let schema = memory.string(self.schema);
        // One byte of list `wants`: the case `clock`, which is 0.
        let wants = [LISTS, u32::from(self.wants_clock)];
        let metrics = [LISTS + 16, u32::from(self.counter.is_some())];
        if let Some((name, help)) = self.counter {
            let (name, help) = (memory.string(name), memory.string(help));
            memory.words(LISTS + 16, &[name[0], name[1], help[0], help[1], 0]);
        }
        let text_all = 2;
        let info = [
            name,
            version,
            description,
            schema,
            wants,
            [0, 0],
            /* last-messages */ [0, 0],
            /* text, and its window */ [text_all, 0],
            [0, metrics[0]],
            [metrics[1], 0],
        ];
        memory.words(INFO, info.as_flattened());

        let label = memory.string(self.label);
        let confidence = 0.9_f32.to_bits();
        memory.words(PLAIN, &[0, 1, label[0], label[1], confidence]);
        memory.words(
            NOT_A_NUMBER,
            &[0, 1, label[0], label[1], f32::NAN.to_bits()],
        );
        let why = memory.string("not my business");
        memory.words(UNSUPPORTED, &[1, 0, why[0], why[1]]);
        let why = memory.string("a bug\nof my own");
        memory.words(INTERNAL, &[1, 3, why[0], why[1]]);
        // 100 reasons that are all the same 64 KiB.
        let list = 0x30000;
        for reason in 0..100 {
            memory.words(list + reason * 8, &[0x20000, 0x10000]);
        }
        memory.at(0x20000, &[b'x'; 0x10000]);
        memory.words(TOO_LARGE, &[0]);
        memory.words(TOO_LARGE + 60, &[list, 100]);

        let path = memory.string("/threshold");
        let message = memory.string("must not exceed the limit");
        memory.words(
            ISSUES,
            &[
                1,
                ISSUES + 16,
                1,
                0,
                path[0],
                path[1],
                message[0],
                message[1],
            ],
        );
        if let Some(stage) = &self.stage {
            memory.at(STAGE_RESULT, &stage.result);
        }
        memory.bytes
    }

    fn core(&self) -> Vec<u8> {
        let bytes = self
            .memory()
            .iter()
            .map(|byte| format!("\\{byte:02x}"))
            .collect::<String>();
        let describe = self
            .describe
            .map_or_else(|| format!("i32.const {INFO}"), str::to_owned);
        let configure = self.configure.unwrap_or("i32.const 16");
        let (extra, post_return) = (self.extra, self.post_return);
        let when = |letter: char, then: &str| {
            let code = u32::from(letter);
            format!("(if (i32.eq (local.get $mode) (i32.const {code})) (then {then}))")
        };
        let classify = format!(
            r#"(func (export "sluicegate:plugin/classify@0.1.0#classify") (param $request i32) (result i32)
                 (local $mode i32) (local $n i32)
                 (local.set $mode (i32.load8_u (i32.load offset=4 (local.get $request))))
                 {} {} {} {} {} {} {} {} {}
                 i32.const {PLAIN})
               (func (export "cabi_post_sluicegate:plugin/classify@0.1.0#classify") (param i32)
                 {post_return}
                 (global.set $heap (i32.const {HEAP})))"#,
            when('l', "(loop $forever (br $forever))"),
            when('t', "unreachable"),
            when(
                'm',
                "(loop $more (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1))
                   (then unreachable)) (br $more))"
            ),
            // About 10 µs of work.
            when(
                'w',
                "(local.set $n (i32.const 20000))
                 (loop $again (local.set $n (i32.sub (local.get $n) (i32.const 1)))
                   (br_if $again (local.get $n)))"
            ),
            when('u', &format!("(return (i32.const {UNSUPPORTED}))")),
            when('i', &format!("(return (i32.const {INTERNAL}))")),
            when('n', &format!("(return (i32.const {NOT_A_NUMBER}))")),
            when('o', &format!("(return (i32.const {TOO_LARGE}))")),
            when('z', extra),
        );
        let stage = self
            .stage
            .as_ref()
            .map_or(classify, |stage| stage.functions.clone());
        let (imports, items, realloc) = (self.imports, self.items, self.realloc);
        let text = format!(
            r#"(module
                 {imports}
                 (memory (export "memory") 32)
                 (global $heap (mut i32) (i32.const {HEAP}))
                 (data (i32.const 0) "{bytes}")
                 {items}
                 (func (export "cabi_realloc") (param $old i32) (param $len i32) (param $align i32)
                     (param $size i32) (result i32)
                   (local $at i32)
                   {realloc}
                   (local.set $at (i32.and
                     (i32.add (global.get $heap) (i32.sub (local.get $align) (i32.const 1)))
                     (i32.sub (i32.const 0) (local.get $align))))
                   (global.set $heap (i32.add (local.get $at) (local.get $size)))
                   (if (i32.gt_u (global.get $heap) (i32.shl (memory.size) (i32.const 16)))
                     (then (if (i32.eq (memory.grow (i32.add (i32.const 1)
                       (i32.shr_u (local.get $size) (i32.const 16)))) (i32.const -1))
                       (then unreachable))))
                   local.get $at)
                 (func (export "sluicegate:plugin/lifecycle@0.1.0#describe") (result i32) {describe})
                 (func (export "sluicegate:plugin/lifecycle@0.1.0#configure") (param i32 i32)
                     (result i32) {configure})
                 {stage})"#
        );
        wat::parse_str(text).unwrap()
    }

    /// The component's bytes.
    pub(super) fn build(&self) -> Vec<u8> {
        let world = self
            .stage
            .as_ref()
            .map_or("classifier", |stage| stage.world);
        let contract = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit/v0.1.0");
        let mut resolve = Resolve::default();
        resolve.push_dir(contract).unwrap();
        for (place, package) in self.packages.iter().enumerate() {
            resolve
                .push_str(format!("package{place}.wit"), package)
                .unwrap();
        }
        let wit = self.wit;
        let own = format!(
            "package test:guest; world guest {{ include sluicegate:plugin/{world}@0.1.0; {wit} }}"
        );
        let package = resolve.push_str("guest.wit", &own).unwrap();
        let world = resolve.select_world(&[package], Some("guest")).unwrap();
        let mut module = self.core();
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
        ComponentEncoder::default()
            .module(&module)
            .unwrap()
            .encode()
            .unwrap()
    }
}

/// A stage of which each function does nothing but point to its result.
pub(super) fn fixed_stage(world: &'static str, exports: &[(&str, &str)], result: &[u32]) -> Stage {
    let functions = exports
        .iter()
        .map(|(name, parameters)| {
            format!(
                r#"(func (export "sluicegate:plugin/{name}") {parameters} (result i32)
                     i32.const {STAGE_RESULT})
                   (func (export "cabi_post_sluicegate:plugin/{name}") (param i32)
                     (global.set $heap (i32.const {HEAP})))"#
            )
        })
        .collect();
    let result = result.iter().flat_map(|word| word.to_le_bytes()).collect();
    Stage {
        world,
        functions,
        result,
    }
}
