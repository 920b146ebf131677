use super::families::SPLITS;
use super::*;
use crate::error::ErrorKind;
use crate::source::{Clock, Field, FieldKind, KeyType, Label, LabelKind, LabelOrigin, ValueType};
use serde_json::{Value, json};

fn source() -> SourceSchema {
    let label =
        |name: &str, kind, value| Label { name: name.into(), kind, origin: LabelOrigin::Table { value, timed: false } };
    SourceSchema {
        labels: vec![
            label("tier", LabelKind::Class, ValueType::Text),
            label("spend", LabelKind::Number, ValueType::Number),
        ],
        ..SourceSchema::new(
            KeyType::Integer,
            Clock::Timestamp,
            vec![
                Field::new("price", FieldKind::Number, ValueType::Number),
                Field::new("item", FieldKind::Category, ValueType::Integer),
            ],
        )
    }
}

/// A valid specification with `value` at `path`, such as `encoder.dim`.
fn with(path: &str, value: Value) -> Value {
    let mut spec = json!({"encoder": {"kind": "transformer"}, "objective": {"kind": "next_event", "field": "item"}});
    let mut place = &mut spec;
    for key in path.split('.') {
        place = &mut place[key];
    }
    *place = value;
    spec
}

fn parse(spec: &Value) -> Result<ModelSpec> {
    ModelSpec::parse(spec, &source())
}

/// Message, detail and hint in one text.
fn refused(spec: &Value) -> String {
    let error = parse(spec).expect_err(&spec.to_string());
    let text = format!("{} | {} | {}", error.message, error.detail.unwrap_or_default(), error.hint.unwrap_or_default());
    assert!(error.message.starts_with(char::is_lowercase) && !error.message.ends_with('.'), "{text}");
    text
}

#[test]
fn a_compression_has_something_to_do_and_a_teacher_something_to_say() {
    let parsed = Compression::parse(&json!({"prune": 0.5, "epochs": 2, "weights": "int8"})).unwrap();
    assert_eq!((parsed.prune, parsed.epochs, parsed.scope), (0.5, 2, Scope::Global));
    for (options, message) in [
        (json!({}), "there is nothing to compress"),
        (json!({"weights": "half", "epochs": 2}), "epochs without prune would only train on"),
        (json!({"prune": 1.5}), "prune must be at least 0 and less than 1, not 1.5"),
        (json!({"shrink": 1}), "invalid options of a compression"),
    ] {
        assert_eq!(Compression::parse(&options).unwrap_err().message, message);
    }
    let taught = |encoder: &str, objective: Value, training: Value| {
        let mut spec = json!({"encoder": {"kind": encoder}, "objective": objective, "training": training});
        spec["training"]["teacher"] = json!({"model": "a@2"});
        parse(&spec)
    };
    let next = || json!({"kind": "next_event", "field": "item"});
    let teacher = taught("gru", next(), json!({})).unwrap().training.teacher.unwrap();
    assert_eq!((teacher.model.to_string().as_str(), teacher.weight, teacher.temperature), ("a@2", 0.5, 2.0));
    for (encoder, objective, training, message) in [
        ("knn", next(), json!({}), "encoder \"knn\" counts and cannot learn from a teacher"),
        (
            "gru",
            json!({"kind": "reconstruct", "field": "item"}),
            json!({"split": "random"}),
            "a teacher has nothing to say of the objective \"reconstruct\"",
        ),
        (
            "gru",
            json!({"kind": "classify", "label": "tier"}),
            json!({"split": "k_fold"}),
            "training.split \"k_fold\" does not go with a teacher",
        ),
        ("gru", next(), json!({"augment": {"reorder": 0.1}}), "training.augment.reorder does not go with a teacher"),
    ] {
        let error = taught(encoder, objective, training).unwrap_err();
        assert_eq!(error.message, message);
        assert!(error.hint.is_some());
    }
}

#[test]
fn what_training_begins_with_is_checked() {
    let spec = |encoder: &str, training: serde_json::Value| {
        let spec = json!({"encoder": {"kind": encoder}, "objective": {"kind": "next_event", "field": "item"},
                          "training": training});
        ModelSpec::parse(&spec, &source())
    };
    let parsed = spec("gru", json!({"init_from": "other@3", "freeze": ["embeddings", "layer.0."]})).unwrap();
    assert_eq!(parsed.training.init_from, Some(VersionName { model: "other".into(), version: Some(3) }));
    let written = serde_json::to_value(&parsed).unwrap();
    assert_eq!(written["training"]["init_from"], json!("other@3"));
    assert_eq!(ModelSpec::parse(&written, &source()).unwrap(), parsed);
    for (encoder, training, message, hint) in [
        (
            "knn",
            json!({"init_from": "a"}),
            "encoder \"knn\" counts and has no weights to begin with",
            "\"transformer\"",
        ),
        ("gru", json!({"freeze": ["heads"]}), "training.freeze needs training.init_from", "shoppers@3"),
        (
            "gru",
            json!({"init_from": "a", "freeze": ["body"]}),
            "training.freeze \"body\" is no part of a network",
            "\"heads\"",
        ),
        (
            "gru",
            json!({"init_from": "a", "freeze": ["heads", "encoder", "embeddings"]}),
            "training.freeze leaves nothing to train",
            "\"heads\"",
        ),
    ] {
        let error = spec(encoder, training).unwrap_err();
        assert_eq!(error.message, message);
        assert!(error.hint.as_ref().unwrap().contains(hint), "{error:?}");
    }
}

#[test]
fn an_objective_is_enough() {
    let spec = parse(&json!({"objective": {"kind": "next_event", "field": "item"}})).unwrap();
    assert_eq!(spec.encoder, Encoder::Transformer(Transformer::default()));
    assert_eq!(spec.training, Training::default());
    assert_eq!(spec.evaluation, Evaluation { seen: Seen::Auto, k: vec![10, 5, 20] });
    let next = spec.objective.next_event().unwrap();
    assert_eq!((next.softmax, next.negatives), (Softmax::Auto, 1024));
    assert_eq!((spec.target(&source()).unwrap(), spec.dim()), (Some(1), Some(64)));
}

#[test]
fn each_family_has_its_defaults() {
    let gru = parse(&with("encoder", json!({"kind": "gru", "dim": 32}))).unwrap();
    assert_eq!(gru.encoder, Encoder::Gru(Recurrent { dim: 32, ..Recurrent::default() }));
    let transitions = parse(&with("encoder", json!({"kind": "transitions"}))).unwrap();
    assert_eq!(
        transitions.encoder,
        Encoder::Transitions(Transitions { gaps: 5, history: 20, decay: 0.7, smoothing: 3.0 })
    );
    assert_eq!(transitions.dim(), None);
}

#[test]
fn what_is_written_is_read() {
    for encoder in ["transformer", "rnn", "lstm", "gru", "cnn", "transitions"] {
        let spec = parse(&with("encoder", json!({"kind": encoder}))).unwrap();
        assert_eq!(parse(&serde_json::to_value(&spec).unwrap()).unwrap(), spec);
    }
}

#[test]
fn unknown_keys_and_values_name_the_valid_ones() {
    let cases = [
        ("encodr", json!({}), ["encodr", "encoder"]),
        ("encoder.dims", json!(3), ["dims", "dim"]),
        ("encoder.kind", json!("ltsm"), ["ltsm", "lstm"]),
        ("encoder.pooling", json!("max"), ["max", "attention"]),
        ("encoder.positions", json!("sine"), ["sine", "rotary"]),
        ("objective.kind", json!("churn"), ["churn", "next_event"]),
        ("objective.softmax", json!("half"), ["half", "sampled"]),
        ("training.epoch", json!(1), ["epoch", "epochs"]),
        ("training.schedule", json!("step"), ["step", "cosine"]),
        ("training.augment", json!({"drop": 0.1}), ["drop", "mask"]),
        ("training.split", json!("sideways"), ["sideways", "leave_one_out"]),
        ("training.precision", json!("f16"), ["f16", "bf16"]),
        ("evaluation.seen", json!("hide"), ["hide", "remove"]),
        ("evaluation.ks", json!([1]), ["ks", "seen"]),
    ];
    for (path, value, words) in cases {
        let text = refused(&with(path, value));
        assert!(text.starts_with("invalid model specification"), "{text}");
        assert!(words.iter().all(|word| text.contains(&format!("\"{word}\""))), "{text}");
    }
}

#[test]
fn wrong_types_say_where() {
    for (path, value) in [
        ("training.epochs", json!("many")),
        ("training.learning_rate", json!([])),
        ("training.seed", json!(-1)),
        ("evaluation.k", json!(10)),
    ] {
        assert!(refused(&with(path, value)).contains(&format!("at \"{path}\"")));
    }
    for spec in [json!(null), json!(3), json!("gru"), json!({}), json!({"encoder": {"kind": "gru"}})] {
        assert!(refused(&spec).starts_with("invalid model specification"));
    }
}

#[test]
fn bounds_are_in_the_message() {
    let cases = [
        ("encoder.dim", json!(0), "encoder.dim must be between 1 and 4000, not 0"),
        ("encoder.layers", json!(65), "encoder.layers must be between 1 and 64, not 65"),
        ("encoder.heads", json!(0), "encoder.heads must be between 1 and 64, not 0"),
        ("encoder.length", json!(1), "encoder.length must be between 2 and 8192, not 1"),
        ("encoder.feed_forward", json!(17), "encoder.feed_forward must be between 1 and 16, not 17"),
        ("encoder.dropout", json!(1.0), "encoder.dropout must be at least 0 and less than 1, not 1"),
        ("objective.negatives", json!(0), "objective.negatives must be between 1 and 100000, not 0"),
        ("training.epochs", json!(0), "training.epochs must be between 1 and 10000, not 0"),
        ("training.patience", json!(0), "training.patience must be between 1 and 10000, not 0"),
        ("training.batch_events", json!(1), "training.batch_events must be between 2 and 10000000, not 1"),
        ("training.warmup", json!(1_000_001), "training.warmup must be between 0 and 1000000, not 1000001"),
        ("training.learning_rate", json!(0.0), "training.learning_rate must be greater than 0, not 0"),
        ("training.weight_decay", json!(-0.1), "training.weight_decay must not be negative"),
        ("training.l1", json!(-0.1), "training.l1 must not be negative"),
        ("training.average", json!(1.0), "training.average must be at least 0 and less than 1, not 1"),
        ("objective.label_smoothing", json!(-0.1), "objective.label_smoothing must be at least 0"),
        ("training.augment", json!({"crop": 1.5}), "training.augment.crop must be at least 0"),
        ("training.augment", json!({"mask": 1.5}), "training.augment.mask must be at least 0"),
        ("training.augment", json!({"reorder": 1.5}), "training.augment.reorder must be at least 0"),
        ("training.valid", json!(-0.1), "training.valid must be at least 0 and less than 1, not -0.1"),
        ("training.test", json!(1), "training.test must be at least 0 and less than 1, not 1"),
        ("evaluation.k", json!([10, 0]), "evaluation.k must be between 1 and 10000, not 0"),
        ("evaluation.k", json!([]), "evaluation.k must name at least one cut-off"),
    ];
    for (path, value, message) in cases {
        let text = refused(&with(path, value));
        assert!(text.starts_with(message), "{text}");
    }
    for (encoder, message) in [
        (json!({"kind": "gru", "layers": 17}), "encoder.layers must be between 1 and 16, not 17"),
        (json!({"kind": "cnn", "layers": 17}), "encoder.layers must be between 1 and 16, not 17"),
        (json!({"kind": "cnn", "kernel": 1}), "encoder.kernel must be between 2 and 63, not 1"),
        (json!({"kind": "transitions", "gaps": 0}), "encoder.gaps must be between 1 and 100, not 0"),
        (json!({"kind": "transitions", "history": 0}), "encoder.history must be between 1 and 1000, not 0"),
        (json!({"kind": "transitions", "smoothing": 0}), "encoder.smoothing must be greater than 0, not 0"),
    ] {
        assert!(refused(&with("encoder", encoder)).starts_with(message));
    }
}

#[test]
fn wrong_combinations_are_refused() {
    let cases = [
        (with("encoder.heads", json!(3)), "encoder.dim 64 is not a multiple of encoder.heads 3"),
        (
            with("encoder", json!({"kind": "transformer", "dim": 6, "heads": 2, "positions": "rotary"})),
            "rotary positions need an even number",
        ),
        (
            with("encoder", json!({"kind": "cnn", "causal": false})),
            "objective next_event cannot use an encoder that is not causal",
        ),
        (
            with("encoder", json!({"kind": "gru", "pooling": "mean"})),
            "objective next_event cannot use pooling over all events",
        ),
        (with("training", json!({"valid": 0.5, "test": 0.5})), "training.valid and training.test leave nothing"),
        (with("training.valid", json!(0.0)), "training.valid and training.test leave nothing"),
        (with("training.device", json!("cuda:x")), "training.device \"cuda:x\" is not a device"),
        (with("training.device", json!("cuda:")), "training.device \"cuda:\" is not a device"),
    ];
    for (spec, message) in cases {
        let text = refused(&spec);
        assert!(text.starts_with(message) && !text.ends_with("| "), "{text}");
    }
    for training in [json!({"split": "leave_one_out", "valid": 0.0}), json!({"device": "cuda:1"}), json!({"test": 0.0})]
    {
        parse(&with("training", training)).unwrap();
    }
}

#[test]
fn the_target_must_be_a_category() {
    assert!(refused(&with("objective.field", json!("itm"))).contains("fields of kind category are \"item\""));
    let error = parse(&with("objective.field", json!("price"))).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unsupported);
    let mut numbers = source();
    numbers.fields.truncate(1);
    let error = ModelSpec::parse(&with("objective.field", json!("price")), &numbers).unwrap_err();
    assert!(error.hint.unwrap().starts_with("The source has no field of kind category"));
}

#[test]
fn objectives_are_one_or_several_and_are_written_as_they_were() {
    let one = json!({"kind": "next_event", "field": "item"});
    let two = json!([one, {"kind": "classify", "label": "tier", "weight": 0.5}]);
    let spec = parse(&json!({"objective": two})).unwrap();
    assert_eq!(spec.objective.iter().map(Objective::kind).collect::<Vec<_>>(), ["next_event", "classify"]);
    assert_eq!(spec.objective.0[1].weight(), 0.5);
    let written = serde_json::to_value(&spec).unwrap();
    assert_eq!(parse(&written).unwrap(), spec);
    assert!(serde_json::to_value(parse(&json!({"objective": one})).unwrap()).unwrap()["objective"].is_object());
    assert!(refused(&json!({"objective": []})).starts_with("a model needs an objective"));
    assert!(refused(&json!({"objective": [one, one]})).starts_with("objective next_event is there twice"));
    assert!(refused(&json!({"objective": 7})).contains("an objective or an array of objectives"));
}

#[test]
fn a_family_that_cannot_learn_an_objective_names_those_that_can() {
    let text =
        refused(&json!({"encoder": {"kind": "transitions"}, "objective": {"kind": "classify", "label": "tier"}}));
    assert!(text.starts_with("encoder \"transitions\" cannot learn the objective classify"), "{text}");
    assert!(
        text.contains("\"transformer\"") && text.contains("\"dnn\"") && !text.contains("\"transitions\" and"),
        "{text}"
    );
    let text = refused(&json!({"encoder": {"kind": "dnn"}, "objective": {"kind": "next_event", "field": "item"}}));
    assert!(text.contains("cannot learn the objective next_event"), "{text}");
    let text = refused(&with("training", json!({"split": "k_fold"})));
    assert!(text.starts_with("training.split \"k_fold\" cannot judge the objective next_event"), "{text}");
    let text =
        refused(&json!({"objective": {"kind": "classify", "label": "tier"}, "training": {"split": "leave_one_out"}}));
    assert!(text.contains("\"temporal\", \"random\" and \"k_fold\""), "{text}");
}

#[test]
fn labels_are_those_of_the_source() {
    let text = refused(&json!({"objective": {"kind": "classify", "label": "age"}}));
    assert_eq!(
        text,
        "objective label \"age\" is not a label of the source |  | The source's labels are \"tier\", \"spend\"."
    );
    let text = refused(&json!({"objective": {"kind": "regress", "label": "tier"}}));
    assert!(text.starts_with("objective regress cannot predict label \"tier\" of kind class"), "{text}");
    let spec = parse(&json!({"objective": {"kind": "regress", "label": "spend"}})).unwrap();
    assert_eq!(spec.target(&source()).unwrap(), None);
}

#[test]
fn features_are_selected_for_labels_alone() {
    let text = refused(&with("training.select", json!({"keep": 5})));
    assert!(text.starts_with("training.select needs objectives that predict labels alone"), "{text}");
    let mut spec = json!({"objective": {"kind": "classify", "label": "tier"}, "training": {"select": {"keep": 5}}});
    let parsed = parse(&spec).unwrap();
    assert_eq!(parsed.training.select, Some(Select { keep: 5, by: crate::importance::Method::MutualInformation }));
    assert_eq!(parse(&serde_json::to_value(&parsed).unwrap()).unwrap(), parsed);
    spec["training"]["select"] = json!({"keep": 0});
    assert!(refused(&spec).starts_with("training.select.keep must be between 1 and 1000000, not 0"));
    spec["training"]["select"] = json!({"keep": 5, "by": "luck"});
    assert!(refused(&spec).contains("mutual_information"));
}

#[test]
fn every_family_of_the_table_is_an_encoder_with_defaults() {
    for family in FAMILIES {
        let encoder: Encoder = serde_json::from_value(match family.kind {
            "blend" => json!({"kind": "blend", "models": ["a", "b"]}),
            kind => json!({"kind": kind}),
        })
        .unwrap();
        assert_eq!(encoder.kind(), family.kind);
        assert_eq!(encoder.dim().is_some(), family.vectors, "{}", family.kind);
        assert!(encoder.check().is_ok(), "{}", family.kind);
    }
}

#[test]
fn objectives_without_labels_have_their_defaults_and_bounds() {
    let spec = parse(&json!({"objective": {"kind": "contrastive"}})).unwrap();
    assert_eq!(spec.objective.0, [Objective::Contrastive(Contrastive::default())]);
    assert_eq!(spec.target(&source()).unwrap(), None);
    let spec = parse(&json!({"objective": {"kind": "next_k", "field": "item"}})).unwrap();
    assert!(matches!(&spec.objective.0[0], Objective::NextK(o) if o.k == 5 && o.within.is_none()));
    assert_eq!(spec.target(&source()).unwrap(), Some(1));
    for (objective, message) in [
        (json!({"kind": "contrastive", "slices": 1}), "objective.slices must be between 2 and 16, not 1"),
        (json!({"kind": "contrastive", "min_length": 9, "max_length": 3}), "objective.max_length must be between 9"),
        (json!({"kind": "contrastive", "temperature": 0}), "objective.temperature must be greater than 0"),
        (json!({"kind": "next_k", "field": "item", "k": 0}), "objective.k must be between 1 and 100, not 0"),
        (json!({"kind": "next_k", "field": "item", "within": 0.0}), "objective.within must be greater than 0"),
        (json!({"kind": "reconstruct", "field": "item", "denoising": 1.0}), "objective.denoising must be at least 0"),
        (json!({"kind": "reconstruct", "field": "price"}), "objective reconstruct cannot predict field \"price\""),
    ] {
        let text = refused(&json!({"objective": objective}));
        assert!(text.starts_with(message), "{text}");
    }
}

#[test]
fn hidden_events_need_a_view_from_both_sides_and_what_comes_must_not_be_seen() {
    let masked = |causal: bool| json!({"encoder": {"kind": "transformer", "causal": causal}, "objective": {"kind": "masked_event", "field": "item"}});
    assert!(parse(&masked(false)).is_ok());
    assert_eq!(
        refused(&masked(true)),
        "encoder.causal true does not go with the objective masked_event |  | Set encoder.causal to false."
    );
    for kind in ["next_event", "next_k"] {
        let mut spec = masked(false);
        spec["objective"]["kind"] = json!(kind);
        assert!(refused(&spec).contains("Set encoder.causal to true."));
    }
    let mut gru = masked(false);
    gru["encoder"] = json!({"kind": "gru"});
    assert!(refused(&gru).ends_with("Families that can are \"transformer\"."));
    let mut share = masked(false);
    share["objective"]["mask"] = json!(0.0);
    assert!(refused(&share).starts_with("objective.mask must be greater than 0 and less than 1"));
}

#[test]
fn a_belief_network_needs_values() {
    let mut schema = source();
    schema.fields.truncate(1);
    let spec = json!({"encoder": {"kind": "dbn"}, "objective": {"kind": "classify", "label": "tier"}});
    assert!(parse(&spec).is_ok());
    let error = ModelSpec::parse(&spec, &schema).unwrap_err();
    assert_eq!(error.message, "encoder \"dbn\" needs a field of kind category");
    let mut rate = spec.clone();
    rate["encoder"]["pretraining_rate"] = json!(0);
    assert!(refused(&rate).starts_with("encoder.pretraining_rate must be greater than 0"));
}

#[test]
fn a_model_has_the_items_of_one_field() {
    let mut schema = source();
    schema.fields.push(Field { name: "shop".into(), ..schema.fields[1].clone() });
    let objective = json!([{"kind": "next_event", "field": "item"}, {"kind": "reconstruct", "field": "shop"}]);
    let error = ModelSpec::parse(&json!({"objective": objective}), &schema).unwrap_err();
    assert_eq!(error.message, "objectives predict the fields \"item\" and \"shop\"");
}

#[test]
fn every_objective_of_the_table_can_be_judged_somehow() {
    for family in FAMILIES {
        for kind in family.objectives {
            let splits = SPLITS.iter().find(|(known, _)| known == kind).map(|(_, splits)| splits);
            assert!(splits.is_some_and(|splits| !splits.is_empty()), "{kind}");
        }
    }
}

/// `ratings` of items, which are prices, by an encoder.
fn ratings(encoder: Value) -> Value {
    json!({"encoder": encoder, "objective": {"kind": "ratings", "field": "item", "value": "price"}})
}

#[test]
fn ratings_are_numbers_that_a_category_is_given() {
    let spec = parse(&ratings(json!({"kind": "ncf"}))).unwrap();
    assert_eq!((spec.target(&source()).unwrap(), spec.ratings(&source()).unwrap()), (Some(1), Some(0)));
    assert_eq!(parse(&serde_json::to_value(&spec).unwrap()).unwrap(), spec);
    let next = parse(&json!({"objective": {"kind": "next_event", "field": "item"}})).unwrap();
    assert_eq!(next.ratings(&source()).unwrap(), None);
    let refused_value = |value: &str| {
        let mut spec = ratings(json!({"kind": "knn"}));
        spec["objective"]["value"] = json!(value);
        refused(&spec)
    };
    assert_eq!(
        refused_value("item"),
        "objective ratings cannot predict value \"item\" of kind category |  | The source's fields of kind number are \"price\"."
    );
    assert!(refused_value("stars").starts_with("objective value \"stars\" is not a field of the source"));
    let error = ModelSpec::parse(
        &ratings(json!({"kind": "knn"})),
        &SourceSchema { fields: vec![source().fields[1].clone()], ..source() },
    );
    assert!(error.unwrap_err().hint.unwrap().starts_with("The source has no field of kind number"));
    let mut two = ratings(json!({"kind": "knn"}));
    two["objective"] = json!([two["objective"], {"kind": "next_event", "field": "item"}]);
    assert!(refused(&two).starts_with("objective ratings does not go with others"));
    assert!(refused(&ratings(json!({"kind": "gru"}))).ends_with("Families that can are \"knn\", \"mf\" and \"ncf\"."));
}

#[test]
fn squared_error_goes_with_ratings_and_with_nothing_else() {
    let mf = |loss: &str| json!({"kind": "mf", "loss": loss});
    assert!(parse(&ratings(mf("squared"))).is_ok());
    assert_eq!(
        refused(&ratings(json!({"kind": "mf"}))),
        "encoder.loss \"als\" does not go with the objective ratings |  | Set encoder.loss to \"squared\"."
    );
    assert!(refused(&ratings(mf("bpr"))).starts_with("encoder.loss \"bpr\" does not go with the objective ratings"));
    assert_eq!(
        refused(&with("encoder", mf("squared"))),
        "encoder.loss \"squared\" does not go with the objective next_event |  | Set encoder.loss to \"als\" or \"bpr\", or choose the objective ratings."
    );
}

#[test]
fn a_network_of_pairs_samples_by_itself() {
    let ncf = |key: &str, value: Value| {
        let mut spec = with("encoder", json!({"kind": "ncf"}));
        spec["objective"][key] = value;
        spec
    };
    assert!(parse(&ncf("softmax", json!("sampled"))).is_ok());
    for (key, value) in [("softmax", json!("full")), ("negatives", json!(7)), ("label_smoothing", json!(0.1))] {
        let text = refused(&ncf(key, value));
        assert!(text.starts_with(&format!("objective.{key}")) && text.ends_with("set encoder.negatives."), "{text}");
    }
    for (encoder, message) in [
        (json!({"kind": "ncf", "layers": 0}), "encoder.layers must be between 1 and 8, not 0"),
        (json!({"kind": "ncf", "decay": 0}), "encoder.decay must be greater than 0 and at most 1, not 0"),
        (json!({"kind": "ncf", "negatives": 0}), "encoder.negatives must be between 1 and 10000, not 0"),
    ] {
        assert!(refused(&with("encoder", encoder)).starts_with(message));
    }
}

#[test]
fn a_generator_draws_categories_and_numbers_alone() {
    let gan = json!({"encoder": {"kind": "gan"}, "objective": {"kind": "adversarial", "field": "item"}});
    let spec = parse(&gan).unwrap();
    assert_eq!((spec.encoder.bins(), spec.dim()), (Some(32), Some(64)));
    // Its items have no vectors.
    assert_eq!((spec.target(&source()).unwrap(), spec.item_field(&source()).unwrap()), (Some(1), None));
    let mut told = source();
    let field = |name: &str, kind| Field::new(name, kind, ValueType::Text);
    told.fields.extend([field("review", FieldKind::Text), field("labels", FieldKind::Tags)]);
    let error = ModelSpec::parse(&gan, &told).unwrap_err();
    assert_eq!(error.message, "encoder \"gan\" cannot draw the fields \"review\" (text), \"labels\" (tags)");
    let mut told = source();
    told.attributes.push(crate::source::Attributes { on: None, key: KeyType::Integer, fields: Vec::new() });
    assert!(ModelSpec::parse(&gan, &told).unwrap_err().message.contains("attributes"));
    for (path, value) in [("bins", json!(251)), ("likelihood", json!(-1)), ("rate", json!(0)), ("noise", json!(0))] {
        let mut spec = gan.clone();
        spec["encoder"][path] = value;
        assert!(refused(&spec).contains(&format!("encoder.{path}")), "{path}");
    }
}

#[test]
fn only_a_generator_is_adversarial() {
    let other = json!({"encoder": {"kind": "gru"}, "objective": {"kind": "adversarial", "field": "item"}});
    assert!(refused(&other).contains("Families that can are \"gan\"."));
    let other = json!({"encoder": {"kind": "gan"}, "objective": {"kind": "next_event", "field": "item"}});
    assert!(refused(&other).starts_with("encoder \"gan\" cannot learn the objective next_event"));
    let mut split = json!({"encoder": {"kind": "gan"}, "objective": {"kind": "adversarial", "field": "item"}});
    split["training"] = json!({"split": "k_fold"});
    assert!(refused(&split).contains("\"temporal\" and \"random\""));
}
