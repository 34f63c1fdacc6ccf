//! Flags of mergekit-moe that have no effect here. Existing command lines keep working; each such flag gets a note that
//! says why it is not needed.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};

/// A flag of mergekit-moe.
struct Flag {
    name: &'static str,
    value: Option<&'static str>,
    /// The negated flag, if mergekit has one.
    no: Option<&'static str>,
    /// Completes "--NAME is not needed: ...".
    why: &'static str,
}

const fn switch(name: &'static str, no: &'static str, why: &'static str) -> Flag {
    Flag { name, value: None, no: Some(no), why }
}

const fn option(name: &'static str, value: &'static str, why: &'static str) -> Flag {
    Flag { name, value: Some(value), no: None, why }
}

const CPU: &str = "copying is limited by the disk, and the prompt pass runs on the CPU";

const FLAGS: [Flag; 15] = [
    switch("lazy-unpickle", "no-lazy-unpickle", "tensors are streamed, and pickles are never executed"),
    switch("allow-crimes", "no-allow-crimes", "models that do not fit together are always refused"),
    switch("trust-remote-code", "no-trust-remote-code", "code that comes with a model is never run"),
    switch("cuda", "no-cuda", CPU),
    option("device", "DEVICE", CPU),
    switch("low-cpu-memory", "no-low-cpu-memory", "memory stays within --memory whatever the size of the models"),
    switch("read-to-gpu", "no-read-to-gpu", CPU),
    switch("multi-gpu", "no-multi-gpu", CPU),
    Flag { name: "gpu-rich", value: None, no: None, why: CPU },
    switch("clone-tensors", "no-clone-tensors", "shared tensors are written once per expert anyway"),
    switch("safe-serialization", "no-safe-serialization", "pickled weights are never written"),
    switch("async-write", "no-async-write", "reads and writes always overlap"),
    option("write-threads", "N", "reads and writes always overlap"),
    option("transformers-cache", "DIR", "models are in the Hugging Face cache; set HF_HUB_CACHE to move it"),
    option("lora-merge-cache", "DIR", "adapters are merged while streaming, without a cache"),
];

/// The flags that were given, as notes.
#[derive(Debug, Default)]
pub struct MergekitFlags {
    /// `--lazy-unpickle is not needed: ...`
    pub notes: Vec<String>,
}

impl Args for MergekitFlags {
    fn augment_args(mut command: Command) -> Command {
        for flag in &FLAGS {
            let arg = Arg::new(flag.name)
                .long(flag.name)
                .help(format!("Not needed: {}", flag.why))
                .help_heading("Options of mergekit-moe that are accepted but not needed")
                .hide_short_help(true);
            let arg = match flag.value {
                Some(value) => arg.value_name(value).action(ArgAction::Append),
                None => arg.action(ArgAction::Count),
            };
            command = command.arg(arg);
            if let Some(no) = flag.no {
                command = command.arg(Arg::new(no).long(no).action(ArgAction::Count).hide(true));
            }
        }
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for MergekitFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let given = |name: &str| matches.value_source(name) == Some(clap::parser::ValueSource::CommandLine);
        let mut notes: Vec<String> = FLAGS
            .iter()
            .filter(|flag| given(flag.name))
            .map(|flag| format!("--{} is not needed: {}", flag.name, flag.why))
            .collect();
        if given("no-safe-serialization") {
            notes.push("--no-safe-serialization has no effect: pickled weights are never written".into());
        }
        Ok(Self { notes })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
