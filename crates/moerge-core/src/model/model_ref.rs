//! References to models: a folder or a Hub id, a revision, an adapter.
//!
//! mergekit's notation is `model+adapter`, each part with an optional `@revision`. Whether `a@b` is a folder of that
//! name or revision `b` of `a` depends on the disk, so [`crate::model::locate`] first tries the reference as written,
//! and then the split made here.

use std::fmt;

/// A reference to a model in a recipe or a command.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ModelRef {
    /// A folder, or an id on the Hugging Face Hub.
    pub model: String,
    /// A branch, tag or commit on the Hub.
    pub revision: Option<String>,
    /// A LoRA to add to the model's weights.
    pub adapter: Option<Adapter>,
}

/// A reference to a LoRA adapter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Adapter {
    /// A folder, or an id on the Hugging Face Hub.
    pub model: String,
    /// A branch, tag or commit on the Hub.
    pub revision: Option<String>,
}

impl ModelRef {
    /// A placeholder for a name that could not be read.
    pub(crate) fn unknown() -> Self {
        Self { model: String::new(), revision: None, adapter: None }
    }

    /// Parses `model[@revision][+adapter[@revision]]`. The last `+`, and the last `@` of a part, count. The error names
    /// the empty part.
    ///
    /// # Errors
    /// A part is empty.
    pub fn parse(written: &str) -> Result<Self, &'static str> {
        let (model, adapter) = match written.rsplit_once('+') {
            Some((model, adapter)) => (model, Some(adapter)),
            None => (written, None),
        };
        let (model, revision) = split_revision(model).ok_or("the model's name is empty")?;
        let adapter = match adapter {
            Some(adapter) => {
                let (model, revision) = split_revision(adapter).ok_or("the adapter's name, after `+`, is empty")?;
                Some(Adapter { model, revision })
            }
            None => None,
        };
        Ok(Self { model, revision, adapter })
    }
}

/// Splits at the last `@`; `None` if the name is empty. An `@` at the very end is part of the name.
pub(crate) fn split_revision(written: &str) -> Option<(String, Option<String>)> {
    let written = written.trim();
    let (name, revision) = match written.rsplit_once('@') {
        Some((name, revision)) if !revision.is_empty() => (name, Some(revision.to_owned())),
        _ => (written, None),
    };
    (!name.is_empty()).then(|| (name.to_owned(), revision))
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_part(f, &self.model, self.revision.as_deref())?;
        match &self.adapter {
            Some(adapter) => write!(f, "+{adapter}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_part(f, &self.model, self.revision.as_deref())
    }
}

fn write_part(f: &mut fmt::Formatter<'_>, model: &str, revision: Option<&str>) -> fmt::Result {
    f.write_str(model)?;
    match revision {
        Some(revision) => write!(f, "@{revision}"),
        None => Ok(()),
    }
}
