//! The chat template of a dense merge: one of the models', one by name, or the recipe's own.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::output_file::{OutputFile, file};
use crate::{
    error::{Error, Result},
    model::files::{CHAT_TEMPLATE, CHAT_TEMPLATE_JSON, TOKENIZER_CONFIG},
    suggest::{did_you_mean, quoted, shorten},
};

/// Formats that recipes name.
const NAMED: [(&str, &str); 5] = [
    (
        "chatml",
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}\
         {% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    ),
    (
        "alpaca",
        "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'system' %}\
         {{ message['content'] + '\\n\\n' }}{% elif message['role'] == 'user' %}\
         {{ '### Instruction:\\n' + message['content'] + '\\n\\n' }}{% else %}\
         {{ '### Response:\\n' + message['content'] + eos_token + '\\n\\n' }}{% endif %}{% endfor %}\
         {% if add_generation_prompt %}{{ '### Response:\\n' }}{% endif %}",
    ),
    (
        "llama3",
        "{{ bos_token }}{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + \
         '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}{% endfor %}\
         {% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}",
    ),
    (
        "mistral",
        "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'assistant' %}\
         {{ ' ' + message['content'] + eos_token }}{% else %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% endif %}\
         {% endfor %}",
    ),
    (
        "exaone",
        "{% for message in messages %}{{ '[|' + message['role'] + '|]' + message['content'] }}\
         {{ '\\n' if message['role'] == 'user' else '[|endofturn|]\\n' }}{% endfor %}\
         {% if add_generation_prompt %}{{ '[|assistant|]' }}{% endif %}",
    ),
];

/// The template that `written` stands for. `of_models` are those of the models, where they have one.
///
/// # Errors
/// It is neither a known name nor a template, or `auto` and no model has one.
pub fn chosen(written: &str, of_models: &[Option<String>]) -> Result<String> {
    let name = written.trim();
    if let Some((_, template)) = NAMED.iter().find(|(known, _)| *known == name) {
        return Ok((*template).to_owned());
    }
    if name == "auto" {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        of_models.iter().flatten().for_each(|template| *counts.entry(template).or_default() += 1);
        // Of several that are equally common, that of the first model.
        let most = counts.values().max().copied().unwrap_or(0);
        let common = of_models.iter().flatten().find(|template| counts.get(template.as_str()) == Some(&most));
        return common.cloned().ok_or_else(|| {
            Error::input("`chat_template: auto`, but no model has a chat template")
                .hint("name one, such as `chatml`, or leave `chat_template` out")
        });
    }
    if name.contains('{') || name.contains('\n') {
        return Ok(written.to_owned());
    }
    let names: Vec<&str> = std::iter::once("auto").chain(NAMED.iter().map(|(name, _)| *name)).collect();
    let error = Error::input(format!("no chat template is called \"{}\"", shorten(name)));
    let error = match did_you_mean(name, names.iter().copied()) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => error,
    };
    Err(error.hint(format!("it can be {}, or a template in Jinja", quoted(&names))))
}

/// Puts `template` into the files of an output, wherever readers look for one.
pub fn set(files: &mut Vec<OutputFile>, template: &str) {
    files.retain(|file| !matches!(file.name.as_str(), CHAT_TEMPLATE | CHAT_TEMPLATE_JSON));
    for config in files.iter_mut().filter(|file| file.name == TOKENIZER_CONFIG) {
        let Ok(mut object) = serde_json::from_slice::<Map<String, Value>>(&config.bytes) else { continue };
        if object.contains_key("chat_template") {
            object.insert("chat_template".into(), template.into());
            if let Ok(text) = serde_json::to_string_pretty(&object) {
                config.bytes = (text + "\n").into_bytes();
            }
        }
    }
    files.push(file(CHAT_TEMPLATE, template.to_owned()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_a_name_jinja_or_the_commonest() {
        assert!(chosen("chatml", &[]).unwrap().contains("<|im_start|>"));
        assert_eq!(chosen("{{ messages }}", &[]).unwrap(), "{{ messages }}");
        let models = [Some("a".to_owned()), None, Some("b".to_owned()), Some("b".to_owned())];
        assert_eq!(chosen("auto", &models).unwrap(), "b");
        assert_eq!(chosen("auto", &models[..3]).unwrap(), "a");
        assert!(chosen("auto", &[None]).is_err());
        let error = chosen("chatlm", &[]).unwrap_err();
        assert!(error.parts().hints[0].contains("chatml"), "{error}");
    }

    #[test]
    fn every_place_that_readers_look_at_gets_the_template() {
        let named = |name: &str, text: &str| OutputFile { name: name.into(), bytes: text.into() };
        let mut files = vec![
            named(CHAT_TEMPLATE, "old"),
            named(TOKENIZER_CONFIG, r#"{"bos_token": "<s>", "chat_template": "old"}"#),
            named("config.json", "{}"),
        ];
        set(&mut files, "new");
        let texts: Vec<String> = files.iter().map(|f| String::from_utf8_lossy(&f.bytes).into_owned()).collect();
        assert!(texts[0].contains("\"chat_template\": \"new\"") && texts[0].contains("<s>"), "{texts:?}");
        assert_eq!(texts[1..], ["{}", "new"]);
    }
}
