//! `--card`: adds the results to the README.md of the models that moerge made.

use std::path::{Path, PathBuf};

use moerge_checkpoint::{LocalStorage, write_durably};
use moerge_core::{Error, output::card::MODEL_CARD, record::MOERGE_JSON};
use moerge_infer::model::Model;
use moerge_lib::evaluate::ModelScore;
use moerge_lib::evaluate::with_evaluation;

use super::table::{Table, markdown};

/// The card of one of the models.
pub struct Card {
    /// Index of its model.
    index: usize,
    dir: PathBuf,
    text: String,
}

/// The cards of those `models` that moerge made in a local folder. Called before anything is computed: having none is an
/// error, and so is one that cannot be read.
pub fn cards(models: &[Model]) -> moerge_core::Result<Vec<Card>> {
    let made_here = |model: &Model| Path::new(&model.reference).is_dir() && model.dir.join(MOERGE_JSON).is_file();
    let cards: Vec<Card> = models
        .iter()
        .enumerate()
        .filter(|(_, model)| made_here(model))
        .map(|(index, model)| Card::read(index, &model.dir))
        .collect::<moerge_core::Result<_>>()?;
    if cards.is_empty() {
        return Err(Error::input("--card: none of the models is a folder that moerge made")
            .hint(format!("name the output of `moerge merge`, the folder with {MOERGE_JSON}")));
    }
    Ok(cards)
}

impl Card {
    fn read(index: usize, dir: &Path) -> moerge_core::Result<Self> {
        let path = dir.join(MODEL_CARD);
        let text = match std::fs::read_to_string(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            read => read.map_err(|e| Error::input(format!("cannot read {}: {e}", path.display())))?,
        };
        Ok(Self { index, dir: dir.to_owned(), text })
    }

    /// The file.
    pub fn path(&self) -> PathBuf {
        self.dir.join(MODEL_CARD)
    }

    /// Writes this model's numbers as metadata for the Hub, and those of all models as tables.
    pub fn write(&self, scores: &[ModelScore], tables: &[Table]) -> moerge_core::Result<()> {
        let name = self.dir.canonicalize().ok();
        let name = name.as_deref().unwrap_or(&self.dir).file_name().unwrap_or_default().to_string_lossy();
        let section = format!("Measured by `moerge eval`; ± is the standard error.\n\n{}", markdown(tables));
        let text = with_evaluation(&self.text, &name, &scores[self.index], &section)?;
        Ok(write_durably(&LocalStorage, &self.dir, MODEL_CARD, text.as_bytes())?)
    }
}
