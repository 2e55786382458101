use gantry_job::{Variable, payload::Credential};

use super::*;
use crate::fixture::{Fixture, JOB_TOKEN, file, image, masked, public, service, step, strings};

/// Texts that nobody may read.
const SECRETS: [&str; 11] = [
    JOB_TOKEN,
    "s3cret-masked",
    "s3cret-private",
    "s3cret-file",
    "s3cret-environment",
    "s3cret-registry",
    "s3cret-auth",
    "s3cret-key",
    "s3cret-late",
    "s3cret-short",
    "s3cret \"quoted\"\nsecond",
];

fn trivial() -> Fixture {
    Fixture::new().variable("GIT_STRATEGY", "none")
}

fn with_services() -> Fixture {
    let mut db = service("postgres:16", "db");
    db.variables = vec![public("POSTGRES_DB", "app")];
    Fixture::new()
        .volumes(&["/cache", "/var/run/docker.sock:/var/run/docker.sock"])
        .flag("FF_NETWORK_PER_BUILD", true)
        .variable("GET_SOURCES_ATTEMPTS", "3")
        .service(db)
        .service(service("registry.example.com:5000/team/redis", "cache db"))
        .docker(|docker| {
            docker.memory = Some(512 << 20);
            docker.nano_cpus = Some(1_500_000_000);
            docker.privileged = true;
        })
        .with(|it| {
            it.payload.steps = vec![
                step("script", &["bundle install", "rake"]),
                step("after_script", &["true"]),
            ];
        })
}

/// Secrets in every place that can hold one, and text that would deceive a terminal.
fn hostile() -> Fixture {
    let mut db = image("postgres");
    db.variables = vec![
        public("FROM_MASKED", "<$MASKED>"),
        public("FROM_SHORT", "<$SHORT>"),
        public("PLAIN", "seen by all"),
        public("PRIVATE", "replaced by the service"),
    ];
    db.command = strings(&["--password", "s3cret-masked"]);
    Fixture::new()
        .environment(&[("RUNNER_OWN", "s3cret-environment")])
        .push(masked("MASKED", "s3cret-masked"))
        .push(masked("LATE", "s3cret-late in $CI_PROJECT_DIR"))
        .push(masked("LINES", "s3cret \"quoted\"\nsecond"))
        .push(masked(
            "DOCKER_AUTH_CONFIG",
            "{\"auths\":{\"x\":{\"auth\":\"s3cret-auth\"}}}",
        ))
        .push(Variable::new("PRIVATE", "s3cret-private"))
        .push(Variable::new("SHORT", "s3cret-short"))
        .push(Variable::new("ONE", "a"))
        .push(file("FILE", "s3cret-file"))
        .variable("PUBLIC", "seen")
        .service(db)
        .with(|it| {
            it.payload.job_info.name = "deploy s3cret-masked\u{1b}[2J\nstages\n  forged".to_owned();
            it.payload.git_info.ref_name = "s3cret-masked".to_owned();
            it.payload.image = Some(image("registry.example.com/s3cret-masked:1"));
            it.payload.steps = vec![step("script", &["curl -H 'X: s3cret-masked'"])];
            it.payload.credentials = vec![Credential {
                kind: "registry".to_owned(),
                url: "registry.example.com".to_owned(),
                username: "user".to_owned(),
                password: "s3cret-registry".into(),
            }];
            it.runner.pre_get_sources_script = "echo s3cret-masked".to_owned();
            it.runner.pre_build_script = "echo s3cret-masked".to_owned();
            it.runner.clone_url = Some("https://user:s3cret-clone@internal".to_owned());
            it.tls.ca = Some("public certificate".to_owned());
            it.tls.key = Some("s3cret-key".into());
        })
}

fn rendered(fixture: &Fixture) -> (String, Value) {
    let (plan, masks) = (fixture.plan(), fixture.log_plan().masks);
    (text(&plan, &masks), json(&plan, &masks))
}

/// Without the sixty flags that every job exports, and every entry on one line.
fn shortened(mut value: Value) -> String {
    fn is_flag(value: &Value) -> bool {
        let key = match value {
            Value::Array(pair) => pair.first(),
            other => other.get("key"),
        };
        key.and_then(Value::as_str)
            .is_some_and(|key| key.starts_with("FF_"))
    }
    fn walk(value: &mut Value) {
        match value {
            Value::Array(items) => {
                items.retain(|item| !is_flag(item));
                items.iter_mut().for_each(walk);
            }
            Value::Object(fields) => fields.values_mut().for_each(walk),
            _ => {}
        }
    }
    fn write(out: &mut String, value: &Value, indent: usize) {
        let flat = value.to_string();
        match value {
            Value::Object(fields) if flat.len() > 150 => {
                for (key, value) in fields {
                    write!(out, "\n{:indent$}{key}: ", "").unwrap();
                    write(out, value, indent + 2);
                }
            }
            Value::Array(items) if flat.len() > 150 => {
                for item in items {
                    write!(out, "\n{:indent$}- ", "").unwrap();
                    write(out, item, indent + 2);
                }
            }
            _ => out.push_str(&flat),
        }
    }
    value["script"]["flags"] = Value::Null;
    walk(&mut value);
    let mut out = String::new();
    write(&mut out, &value, 0);
    out
}

#[test]
fn a_trivial_job() {
    let (text, json) = rendered(&trivial());
    insta::assert_snapshot!("trivial_text", text);
    insta::assert_snapshot!("trivial_json", shortened(json));
}

#[test]
fn a_job_with_sources_and_services_on_a_network_of_its_own() {
    let (text, json) = rendered(&with_services());
    insta::assert_snapshot!("services_text", text);
    insta::assert_snapshot!("services_json", shortened(json));
}

#[test]
fn a_job_full_of_secrets() {
    let (text, json) = rendered(&hostile());
    insta::assert_snapshot!("hostile_text", text);
    insta::assert_snapshot!("hostile_json", shortened(json));
}

#[test]
fn no_form_shows_a_secret() {
    let fixture = hostile();
    // The plan itself holds them: without this the test could not fail.
    let plan = serde_json::to_string(&fixture.plan()).unwrap();
    for secret in SECRETS {
        let written = serde_json::to_string(secret).unwrap();
        assert!(plan.contains(written.trim_matches('"')), "{secret}");
    }
    let (text, json) = rendered(&fixture);
    let json = json.to_string();
    for secret in SECRETS.into_iter().chain(["s3cret"]) {
        assert!(!text.contains(secret), "{secret} in {text}");
        assert!(!json.contains(secret), "{secret} in {json}");
    }
    assert!(json.contains("seen") && json.contains("public certificate"));
}

#[test]
fn foreign_text_cannot_begin_a_line_or_move_the_cursor() {
    let (text, _) = rendered(&hostile());
    assert!(
        text.chars().all(|char| char == '\n' || !char.is_control()),
        "{text}"
    );
    assert_eq!(
        text.lines().filter(|line| line.trim() == "forged").count(),
        0
    );
    assert_eq!(text.lines().filter(|line| *line == "stages").count(), 1);
}

#[test]
fn an_empty_phrase_masks_nothing() {
    let masks = Masks {
        phrases: vec![String::new()],
        token_prefixes: Vec::new(),
    };
    let plan = trivial().plan();
    assert_eq!(text(&plan, &masks), text(&plan, &Masks::default()));
}
