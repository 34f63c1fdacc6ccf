//! Flags of mergekit-moe that mean nothing here. Old command lines keep working; each flag given is answered with one
//! line that says why it is not needed.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};

/// One flag: a row of the table.
struct Flag {
    name: &'static str,
    value: Option<&'static str>,
    /// Its other form, where mergekit has one.
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

const CPU: &str = "the copy is bound by the disk, and the prompt pass runs on the CPU";

const FLAGS: [Flag; 16] = [
    switch("lazy-unpickle", "no-lazy-unpickle", "tensors are streamed, and nothing is ever unpickled"),
    switch(
        "allow-crimes",
        "no-allow-crimes",
        "only models that fit together are taken, and mixing architectures does not work",
    ),
    switch(
        "unsafe-truncate-embeddings",
        "no-unsafe-truncate-embeddings",
        "an MoE has its base's embeddings, whatever the experts' vocabularies",
    ),
    switch("trust-remote-code", "no-trust-remote-code", "no code of a model is ever run"),
    switch("cuda", "no-cuda", CPU),
    option("device", "DEVICE", CPU),
    switch("low-cpu-memory", "no-low-cpu-memory", "memory stays within --memory whatever the size of the models"),
    switch("read-to-gpu", "no-read-to-gpu", CPU),
    switch("multi-gpu", "no-multi-gpu", CPU),
    Flag { name: "gpu-rich", value: None, no: None, why: CPU },
    switch("clone-tensors", "no-clone-tensors", "experts may share tensors; each is written where it belongs"),
    switch("safe-serialization", "no-safe-serialization", "safetensors is the only format that is written"),
    switch("async-write", "no-async-write", "reads and writes always overlap"),
    option("write-threads", "N", "reads and writes always overlap"),
    option("transformers-cache", "DIR", "models are looked up in the Hugging Face cache; HF_HUB_CACHE names another"),
    option("lora-merge-cache", "DIR", "adapters are merged while they are streamed; nothing is kept"),
];

/// What was given of them: one line each.
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
                .help_heading("Options of mergekit-moe that are accepted and not needed")
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
            notes.push("--no-safe-serialization has no effect: safetensors is the only format that is written".into());
        }
        Ok(Self { notes })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
