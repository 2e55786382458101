use proptest::prelude::*;
use rstest::rstest;

use crate::pipeline::{AllowFailure, DockerOptions, Image, PullPolicy, Variable};
use crate::problem::Problem;
use crate::{Pipeline, PipelineJob, parse, parse_bytes};

mod archives;
mod order;
mod rendering;
mod secrets;

fn job(text: &str) -> PipelineJob {
    match parse("f.yml", text) {
        Ok(pipeline) => pipeline.jobs[0].clone(),
        Err(error) => panic!("{:#?}", lines(error.problems())),
    }
}

fn lines(problems: &[Problem]) -> Vec<String> {
    problems
        .iter()
        .map(|problem| {
            let start = problem.span().start;
            format!("{}:{}: {problem}", start.line, start.column)
        })
        .collect()
}

fn problems(text: &str) -> Vec<String> {
    match parse("f.yml", text) {
        Ok(pipeline) => panic!("accepted: {:?}", pipeline.jobs),
        Err(error) => lines(error.problems()),
    }
}

#[rstest]
#[case("a: {script: x}", &["x"])]
#[case("a: {script: [x, y]}", &["x", "y"])]
#[case("a: {script: [x, [y, [z]], w]}", &["x", "y", "z", "w"])]
#[case("a: {script: [[[[[[[[[[x]]]]]]]]]]}", &["x"])]
#[case("a:\n  script:\n    - |\n      one\n      two\n    - echo \"a\"\n", &["one\ntwo\n", "echo \"a\""])]
#[case(".s: &s [x, y]\na: {script: [*s, z]}", &["x", "y", "z"])]
#[case("a: {script: ['']}", &[""])]
fn scripts_are_flattened(#[case] text: &str, #[case] expected: &[&str]) {
    assert_eq!(job(text).script, expected);
}

// local-pipelines G 33 and A1 step 8.
#[rstest]
#[case("", &["d"], &["e"], Some("one"), 1)]
#[case("before_script: [], ", &[], &["e"], Some("one"), 1)]
#[case("before_script: ~, after_script: ~, ", &[], &[], Some("one"), 1)]
#[case("before_script: j, ", &["j"], &["e"], Some("one"), 1)]
#[case("image: two, ", &["d"], &["e"], Some("two"), 1)]
#[case("image: ~, services: [], ", &["d"], &["e"], None, 0)]
fn a_keyword_of_the_job_replaces_the_inherited_one_whole(
    #[case] own: &str,
    #[case] before: &[&str],
    #[case] after: &[&str],
    #[case] image: Option<&str>,
    #[case] services: usize,
) {
    for global in [
        "default: {before_script: [d], after_script: [e], image: one, services: [s]}",
        "before_script: [d]\nafter_script: [e]\nimage: one\nservices: [s]",
        "before_script: [d]\nafter_script: [e]\ndefault: {image: one, services: [s]}",
    ] {
        let job = job(&format!("{global}\na: {{{own}script: x}}"));
        assert_eq!(job.before_script, before);
        assert_eq!(job.after_script, after);
        assert_eq!(job.image.map(|image| image.name).as_deref(), image);
        assert_eq!(job.services.len(), services);
    }
}

#[test]
fn global_variables_come_first_and_those_of_the_job_win() {
    let job = job("variables: {A: g, B: g}\na: {variables: {C: j, A: j}, script: x}");
    let list: Vec<(&str, &str)> = job
        .variables
        .iter()
        .map(|one| (one.key.as_str(), one.value.as_str()))
        .collect();
    assert_eq!(list, [("A", "j"), ("B", "g"), ("C", "j")]);
}

#[rstest]
#[case("text", "text")]
#[case("'1.10'", "1.10")]
#[case("1", "1")]
#[case("1.5", "1.5")]
#[case("true", "true")]
#[case("on", "true")]
#[case("1_000", "1000")]
#[case("014", "12")]
#[case("3.10", "3.1")]
#[case("12:30", "45000")]
#[case("1e3", "1e3")]
#[case("~", "")]
#[case("''", "")]
#[case("{value: x}", "x")]
#[case("{value: 1.0}", "1.0")]
#[case("{value: ~}", "")]
#[case("{}", "")]
#[case("{expand: true}", "")]
fn values_of_variables_are_the_texts_that_a_job_of_gitlab_sees(
    #[case] value: &str,
    #[case] expected: &str,
) {
    assert_eq!(
        job(&format!("a: {{variables: {{V: {value}}}, script: x}}")).variables[0].value,
        expected
    );
    assert_eq!(
        job(&format!("variables: {{V: {value}}}\na: {{script: x}}")).variables[0].value,
        expected
    );
}

#[test]
fn a_variable_may_say_more_about_itself() {
    let job = job(
        "variables: {V: {value: a, description: d, options: [a, b], expand: false}, 1: x, on: y}\n\
         a: {script: x}",
    );
    let expected = Variable {
        key: "V".to_owned(),
        value: "a".to_owned(),
        expand: false,
        description: Some("d".to_owned()),
        options: vec!["a".to_owned(), "b".to_owned()],
    };
    assert_eq!(job.variables[0], expected);
    assert_eq!(job.variables[1].key, "1");
    assert_eq!(job.variables[2].key, "true");
}

#[test]
fn a_value_that_yaml_changes_is_a_warning() {
    let pipeline = parse(
        "f",
        "variables: {A: 3.10, B: yes, C: 014, D: true, E: 5, F: '3.10'}\na: {script: x}",
    )
    .unwrap();
    assert_eq!(
        lines(&pipeline.warnings),
        [
            "1:16: `variables:A` is `3.1`, not `3.10`",
            "1:25: `variables:B` is `true`, not `yes`",
            "1:33: `variables:C` is `12`, not `014`",
        ]
    );
}

#[test]
fn an_image_has_all_its_options() {
    let job = job(
        "a: {script: x, image: {name: i, entrypoint: ['', x], pull_policy: always, \
         docker: {user: 'u:g', platform: p}}}",
    );
    let expected = Image {
        name: "i".to_owned(),
        entrypoint: vec![String::new(), "x".to_owned()],
        pull_policy: vec![PullPolicy::Always],
        docker: DockerOptions {
            user: "u:g".to_owned(),
            platform: "p".to_owned(),
        },
    };
    assert_eq!(job.image, Some(expected));
}

#[rstest]
#[case("true", AllowFailure::Yes)]
#[case("yes", AllowFailure::Yes)]
#[case("false", AllowFailure::No)]
#[case("~", AllowFailure::No)]
#[case("{}", AllowFailure::No)]
#[case("{exit_codes: 42}", AllowFailure::ExitCodes(vec![42]))]
#[case("{exit_codes: [1, 255]}", AllowFailure::ExitCodes(vec![1, 255]))]
fn allow_failure_has_three_forms(#[case] text: &str, #[case] expected: AllowFailure) {
    assert_eq!(
        job(&format!("a: {{script: x, allow_failure: {text}}}")).allow_failure,
        expected
    );
}

fn stages(pipeline: &Pipeline) -> String {
    pipeline.stage_names.join(" ")
}

#[rstest]
#[case("", ".pre build test deploy .post")]
#[case("stages: ~", ".pre build test deploy .post")]
#[case("stages: [test]", ".pre test .post")]
#[case("stages: [test, .post, x, .pre, test]", ".pre test x .post")]
fn edge_stages_stand_at_the_edges(#[case] text: &str, #[case] expected: &str) {
    let pipeline = parse("f", &format!("{text}\na: {{script: x}}")).unwrap();
    assert_eq!(stages(&pipeline), expected);
    assert_eq!(pipeline.jobs[0].stage, "test");
}

#[test]
fn hidden_entries_are_never_jobs_and_may_hold_anything() {
    let text = ".a: text\n.b: [1]\n.c: {rules: x, oops: !reference [d]}\na: {script: x}";
    assert_eq!(parse("f", text).unwrap().jobs.len(), 1);
}

#[test]
fn anchors_and_merge_keys_work_across_jobs() {
    let job = job(".base: &base {stage: build, script: x}\na:\n  <<: *base\n  image: i\n");
    assert_eq!((job.stage.as_str(), job.script.len()), ("build", 1));
}

#[test]
fn a_second_document_without_a_header_is_ignored_with_a_warning() {
    let pipeline = parse("f", "a: {script: x}\n---\nb: {script: x}\n").unwrap();
    assert_eq!(pipeline.jobs[0].name, "a");
    assert_eq!(lines(&pipeline.warnings), ["2:1: this document is ignored"]);
}

#[test]
fn all_keywords_that_are_not_supported_are_named_at_once() {
    let text = "
include: x.yml
workflow: {rules: []}
default: {retry: 2, tags: [a]}
a:
  script: x
  rules: [{when: always}]
  coverage: /x/
b:
  extends: .x
c:
  trigger: {project: x}
";
    assert_eq!(
        problems(text),
        [
            "2:1: `include` is not supported yet (line 2)",
            "3:1: `workflow` is not supported yet (line 3)",
            "4:11: `retry` is not supported yet (line 4 in default)",
            "4:21: `tags` is not supported yet (line 4 in default)",
            "7:3: `rules` is not supported yet (line 7 in jobs:a)",
            "8:3: `coverage` is not supported yet (line 8 in jobs:a)",
            "10:3: `extends` is not supported yet (line 10 in jobs:b)",
            "12:3: `trigger` is not supported yet (line 12 in jobs:c)",
        ]
    );
}

#[test]
fn every_keyword_of_a_job_is_run_or_refused_by_name() {
    for keyword in crate::keywords::JOB.names() {
        let supported = crate::keywords::JOB.supported().contains(&keyword);
        let text = format!("a:\n  script: x\n  {keyword}: ~\n");
        match parse("f", &text) {
            Ok(_) => assert!(supported, "{keyword}"),
            Err(error) => {
                let line = lines(error.problems()).join("\n");
                let refused = format!("`{keyword}` is not supported yet (line 3 in jobs:a)");
                // `script` twice: the second, empty one counts.
                let empty = keyword == "script" && line.contains("is empty");
                assert!(empty || (!supported && line.ends_with(&refused)), "{line}");
            }
        }
    }
}

#[test]
fn a_header_document_is_refused_by_name() {
    assert_eq!(
        problems("spec:\n  inputs: {a: ~}\n---\nj:\n  script: $[[ inputs.a ]]\n"),
        ["1:1: `spec` is not supported yet (line 1)"]
    );
    assert_eq!(
        problems("spec: {inputs: {}}\nj: {script: x}\n"),
        ["1:1: `spec` must be in a document of its own"]
    );
}

#[test]
fn references_are_refused_once_and_only_where_they_are_used() {
    let text = "
.x: {script: !reference [.y, script]}
variables: !reference [.z, variables]
a:
  script:
    - one
    - !reference [.x, script]
  after_script: !reference [.x, after_script]
  image: !reference [.x, image]
";
    assert_eq!(
        problems(text),
        [
            "3:12: `!reference` is not supported yet (line 3)",
            "7:7: `!reference` is not supported yet (line 7)",
            "8:17: `!reference` is not supported yet (line 8)",
            "9:10: `!reference` is not supported yet (line 9)",
        ]
    );
}

#[rstest]
// The file.
#[case("", &["1:1: the file is empty"])]
#[case("# nothing\n", &["1:1: the file is empty"])]
#[case("--- \n--- \n", &["1:1: the file is empty"])]
#[case("- a\n", &["1:1: a pipeline is a map of keywords and jobs, not a list"])]
#[case("text\n", &["1:1: a pipeline is a map of keywords and jobs, not text"])]
#[case("a: {script: x}\n---\nb: 1\n---\nc: 1\n", &["4:1: the file has more than two documents"])]
#[case("stages: [a]\n", &["1:1: the file has no visible job"])]
#[case(".a: {script: x}\n", &["1:1: the file has no visible job"])]
#[case("a: {stage: .pre, script: x}\nz: {stage: .post, script: x}\n",
    &["1:1: all jobs are in `.pre` or `.post`, of which GitLab makes no pipeline"])]
// Names.
#[case("scirpt: [x]\n", &["1:1: the job `scirpt` has no `script`"])]
#[case("varibles: {A: b}\na: {script: x}\n", &["1:1: `varibles` is neither a keyword nor a job"])]
#[case("types: [a]\na: {script: x}\n", &["1:1: the job `types` has no `script`"])]
#[case("1: {script: x}\n", &["1:1: the name of a job should be text, not a number"])]
#[case("on: {script: x}\n", &["1:1: the name of a job should be text, not a boolean"])]
#[case("'true': {script: x}\n", &["1:1: no job may be called `true`"])]
#[case("pages:deploy: {script: x}\n", &["1:1: no job may be called `pages:deploy`"])]
#[case("' ': {script: x}\n", &["1:1: a job has no name"])]
#[case("~: {script: x}\n", &["1:1: a job has no name"])]
#[case("a: {<<: x, script: x}\n", &["1:5: `<<` needs a map or a list of maps"])]
#[case("<<: x\na: {script: x}\n", &["1:1: `<<` needs a map or a list of maps"])]
// Scripts.
#[case("a: {stage: test}\n", &["1:1: the job `a` has no `script`"])]
#[case("a: {scirpt: x}\n", &["1:1: the job `a` has no `script`"])]
#[case("a: {scirpt: x, stage: test}\n", &["1:5: `jobs:a` has an unknown keyword `scirpt`"])]
#[case("a:\n", &["1:1: the job `a` has no `script`"])]
#[case("a: {script: }\n", &["1:5: `jobs:a:script` is empty"])]
#[case("a: {script: []}\n", &["1:5: `jobs:a:script` is empty"])]
#[case("a: {script: ' '}\n", &["1:5: `jobs:a:script` is empty"])]
#[case("a: {script: {b: c}}\n", &["1:13: `jobs:a:script` should be a text or a list of texts, not a map"])]
#[case("a: {script: 1}\n", &["1:13: `jobs:a:script` should be a text or a list of texts, not a number"])]
#[case("a:\n  script:\n    - echo a: b\n    - true\n    -\n",
    &["3:7: `jobs:a:script` should hold texts, not a map",
      "4:7: `jobs:a:script` should hold texts, not a boolean",
      "5:6: `jobs:a:script` should hold texts, not nothing"])]
#[case("a: {script: [[[[[[[[[[[x]]]]]]]]]]]}\n",
    &["1:23: `jobs:a:script` has lists nested more than 10 levels deep"])]
#[case("before_script: 1\na: {script: x, after_script: 2}\n",
    &["1:16: `before_script` should be a text or a list of texts, not a number",
      "2:30: `jobs:a:after_script` should be a text or a list of texts, not a number"])]
// Stages.
#[case("stages: x\na: {script: x}\n", &["1:9: `stages` should be a list of texts, not text"])]
#[case("stages: [1]\na: {script: x}\n", &["1:10: `stages` should be text, not a number"])]
#[case("stages: [one]\na: {stage: two, script: x}\n",
    &["2:12: the job `a` is in the stage `two`, which does not exist"])]
#[case("stages: [one]\na: {script: x}\n",
    &["2:1: the job `a` is in the stage `test` by default, which does not exist"])]
#[case("a: {stage: 1, script: x}\n", &["1:12: `jobs:a:stage` should be text, not a number"])]
// Images and services.
#[case("image: [a]\na: {script: x}\n", &["1:8: `image` should be text or a map with `name`, not a list"])]
#[case("image: ''\na: {script: x}\n", &["1:8: `image` is empty"])]
#[case("a: {script: x, image: {}}\n", &["1:23: `jobs:a:image` has no `name`"])]
#[case("a: {script: x, image: {name: i, tag: t, ports: []}}\n",
    &["1:33: `jobs:a:image` has an unknown keyword `tag`",
      "1:41: `ports` is not supported yet (line 1 in jobs:a:image)"])]
#[case("a: {script: x, image: {name: i, entrypoint: /bin/sh}}\n",
    &["1:45: `jobs:a:image:entrypoint` should be a list of texts, not text"])]
#[case("a: {script: x, image: {name: i, pull_policy: allways}}\n",
    &["1:46: `jobs:a:image:pull_policy` has no policy `allways`"])]
#[case("a: {script: x, image: {name: i, docker: {usr: 1}}}\n",
    &["1:42: `jobs:a:image:docker` has an unknown keyword `usr`"])]
#[case("a: {script: x, services: s}\n", &["1:26: `jobs:a:services` should be a list, not text"])]
#[case("a: {script: x, services: [1, {alias: b}]}\n",
    &["1:27: `jobs:a:services` should be a list of texts or maps with `name`, not a number",
      "1:30: `jobs:a:services` has no `name`"])]
#[case("a: {script: x, services: [{name: s, variables: {V: {value: x}}}]}\n",
    &["1:52: `jobs:a:services:variables:V` should be text, a number or a boolean, not a map"])]
// Variables.
#[case("variables: [a]\na: {script: x}\n",
    &["1:12: `variables` should be a map of names and values, not a list"])]
#[case("variables: {A: [b]}\na: {script: x}\n",
    &["1:16: `variables:A` should be text, a number, a boolean, or a map with `value`, not a list"])]
#[case("variables: {A: {value: b, options: [c]}}\na: {script: x}\n",
    &["1:24: the value of `variables:A` is not one of its options"])]
#[case("a: {script: x, variables: {A: {value: b, description: d}}}\n",
    &["1:42: `jobs:a:variables:A` has an unknown keyword `description`"])]
#[case("variables: {A: {value: b, expand: 1}, '': x, 'a=b': x, N: \"a\\0b\"}\na: {script: x}\n",
    &["1:35: `variables:A:expand` should be a boolean, not a number",
      "1:39: a name in `variables` is empty",
      "1:46: `variables` has a name that no environment can hold",
      "1:59: `variables:N` holds a NUL character"])]
// The rest.
#[case("a: {script: x, allow_failure: 'yes'}\n",
    &["1:31: `jobs:a:allow_failure` should be a boolean or a map with `exit_codes`, not text"])]
#[case("a: {script: x, allow_failure: {exit_codes: [a]}}\n",
    &["1:45: `jobs:a:allow_failure:exit_codes` should be a number or a list of numbers, not text"])]
#[case("image: a\ndefault: {image: b}\na: {script: x}\n",
    &["1:1: `image` is given at the top and in `default`"])]
#[case("default: []\na: {script: x}\n", &["1:10: `default` should be a map, not a list"])]
#[case("default: {script: x, stage: y}\na: {script: x}\n",
    &["1:11: `default` has an unknown keyword `script`",
      "1:22: `default` has an unknown keyword `stage`"])]
fn mistakes_are_found_all_at_once_and_where_they_are(
    #[case] text: &str,
    #[case] expected: &[&str],
) {
    assert_eq!(problems(text), expected);
}

#[test]
fn after_a_syntax_error_nothing_else_is_reported() {
    assert_eq!(problems("a: {rules: x}\nb: [\n").len(), 1);
}

#[test]
fn problems_without_end_are_counted_and_not_kept() {
    let text: String = (0..1000)
        .map(|n| format!("j{n}: {{script: x, rules: x}}\n"))
        .collect();
    let error = parse("f.yml", &text).unwrap_err();
    assert_eq!(error.problems().len(), 100);
    assert_eq!(
        error.to_string(),
        "f.yml cannot be run: 1000 problems, of which these are the first 100"
    );
}

#[test]
fn a_file_of_many_jobs_and_many_variables_cannot_fill_the_memory() {
    let variables: String = (0..5_000).map(|n| format!("  V{n}: x\n")).collect();
    let jobs: String = (0..5_000)
        .map(|n| format!("j{n}: {{script: x}}\n"))
        .collect();
    let found = problems(&format!("variables:\n{variables}{jobs}"));
    assert!(
        found[0].ends_with("the jobs of this file together inherit too much"),
        "{found:?}"
    );
}

#[test]
fn many_jobs_and_stages_are_no_trouble() {
    let stages: String = (0..5_000).map(|n| format!("  - s{n}\n")).collect();
    let jobs: String = (0..5_000)
        .map(|n| format!("j{n}: {{stage: s{n}, script: x}}\n"))
        .collect();
    let pipeline = parse("f", &format!("stages:\n{stages}{jobs}")).unwrap();
    assert_eq!(pipeline.stages.len(), 5_000);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        drop(parse_bytes("f", &bytes));
    }

    #[test]
    fn arbitrary_files_give_jobs_or_problems_and_both_can_be_shown(
        text in "(script: |image: |stages: |variables: |default: |services: |a:\n|b: |  |\n|- |x|1|true|\\{|\\}|\\[|\\]|, |: |&a |\\*a|<<: |!reference |~|'|\"|# c\n|\\.h: ){0,30}",
    ) {
        match parse("f", &text) {
            Ok(pipeline) => {
                prop_assert!(!pipeline.jobs.is_empty());
                let in_stages: usize = pipeline.stages.iter().map(|stage| stage.jobs.len()).sum();
                prop_assert_eq!(in_stages, pipeline.jobs.len());
            }
            Err(error) => {
                prop_assert!(!error.problems().is_empty());
                rendering::render(&error);
            }
        }
    }
}
