//! Generated from `wit/v0.1.0`: one set of types for all worlds, so that the stages share them.
//! Parameters borrow: a request's texts are copied once, into the guest.

wasmtime::component::bindgen!({
    path: "../wit/v0.1.0",
    inline: "
        package sluicegate:host;

        /// Everything that this version has. Never instantiated as a whole: a component exports
        /// `lifecycle` and one of the others.
        world everything {
            include sluicegate:plugin/classifier@0.1.0;
            include sluicegate:plugin/compressor@0.1.0;
            include sluicegate:plugin/cache-policy@0.1.0;
        }
    ",
    world: "sluicegate:host/everything",
    imports: { default: trappable },
    ownership: Borrowing { duplicate_if_necessary: true },
});
