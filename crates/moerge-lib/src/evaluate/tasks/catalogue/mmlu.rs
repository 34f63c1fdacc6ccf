//! MMLU: 57 subjects, each with five solved examples in the split `dev`.

use super::{Ask, Examples, Gold, Sampler, Task, fixed, table};

/// A field of knowledge, to which the harness assigns subjects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Stem,
    Humanities,
    SocialSciences,
    Other,
}

/// The fields by the names of their groups.
pub(super) const FIELDS: [(&str, Field); 4] = [
    ("mmlu_stem", Field::Stem),
    ("mmlu_other", Field::Other),
    ("mmlu_social_sciences", Field::SocialSciences),
    ("mmlu_humanities", Field::Humanities),
];

const SUBJECTS: [(&str, Field); 57] = [
    ("abstract_algebra", Field::Stem),
    ("anatomy", Field::Stem),
    ("astronomy", Field::Stem),
    ("business_ethics", Field::Other),
    ("clinical_knowledge", Field::Other),
    ("college_biology", Field::Stem),
    ("college_chemistry", Field::Stem),
    ("college_computer_science", Field::Stem),
    ("college_mathematics", Field::Stem),
    ("college_medicine", Field::Other),
    ("college_physics", Field::Stem),
    ("computer_security", Field::Stem),
    ("conceptual_physics", Field::Stem),
    ("econometrics", Field::SocialSciences),
    ("electrical_engineering", Field::Stem),
    ("elementary_mathematics", Field::Stem),
    ("formal_logic", Field::Humanities),
    ("global_facts", Field::Other),
    ("high_school_biology", Field::Stem),
    ("high_school_chemistry", Field::Stem),
    ("high_school_computer_science", Field::Stem),
    ("high_school_european_history", Field::Humanities),
    ("high_school_geography", Field::SocialSciences),
    ("high_school_government_and_politics", Field::SocialSciences),
    ("high_school_macroeconomics", Field::SocialSciences),
    ("high_school_mathematics", Field::Stem),
    ("high_school_microeconomics", Field::SocialSciences),
    ("high_school_physics", Field::Stem),
    ("high_school_psychology", Field::SocialSciences),
    ("high_school_statistics", Field::Stem),
    ("high_school_us_history", Field::Humanities),
    ("high_school_world_history", Field::Humanities),
    ("human_aging", Field::Other),
    ("human_sexuality", Field::SocialSciences),
    ("international_law", Field::Humanities),
    ("jurisprudence", Field::Humanities),
    ("logical_fallacies", Field::Humanities),
    ("machine_learning", Field::Stem),
    ("management", Field::Other),
    ("marketing", Field::Other),
    ("medical_genetics", Field::Other),
    ("miscellaneous", Field::Other),
    ("moral_disputes", Field::Humanities),
    ("moral_scenarios", Field::Humanities),
    ("nutrition", Field::Other),
    ("philosophy", Field::Humanities),
    ("prehistory", Field::Humanities),
    ("professional_accounting", Field::Other),
    ("professional_law", Field::Humanities),
    ("professional_medicine", Field::Other),
    ("professional_psychology", Field::SocialSciences),
    ("public_relations", Field::SocialSciences),
    ("security_studies", Field::SocialSciences),
    ("sociology", Field::SocialSciences),
    ("us_foreign_policy", Field::SocialSciences),
    ("virology", Field::Other),
    ("world_religions", Field::Humanities),
];

const TEXT: &str =
    "{{question.strip()}}\nA. {{choices[0]}}\nB. {{choices[1]}}\nC. {{choices[2]}}\nD. {{choices[3]}}\nAnswer:";

pub(super) fn tasks() -> Vec<Task> {
    SUBJECTS.iter().map(|(subject, _)| self::subject(subject)).collect()
}

/// The names of the tasks of a field.
pub(super) fn subjects(field: Field) -> Vec<String> {
    SUBJECTS.iter().filter(|(_, its)| *its == field).map(|(subject, _)| name(subject)).collect()
}

fn name(subject: &str) -> String {
    format!("mmlu_{subject}")
}

fn subject(subject: &str) -> Task {
    let ask = Ask::Choices { text: TEXT, choices: fixed(&["A", "B", "C", "D"]), gold: Gold::Index("answer") };
    let about = subject.replace('_', " ");
    Task {
        training: None,
        validation: None,
        test: Some("test"),
        examples: Examples::Split("dev"),
        sampler: Sampler::FirstN,
        description: format!("The following are multiple choice questions (with answers) about {about}.\n\n"),
        ..table(name(subject), "cais/mmlu", subject, ask)
    }
}
