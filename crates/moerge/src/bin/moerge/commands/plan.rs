use std::{path::PathBuf, process::ExitCode};

/// Show what a recipe would make, and touch nothing
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The recipe, a YAML file
    #[arg(value_name = "RECIPE")]
    recipe: PathBuf,
    /// Print the plan as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not built yet: {} {}", args.recipe.display(), args.json)
}
