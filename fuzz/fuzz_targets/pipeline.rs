//! Any bytes are a pipeline or problems with their places; so is a file of variables.
#![no_main]
use gantry_job::Variable;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    match gantry_pipeline::parse_bytes(".gitlab-ci.yml", data) {
        Ok(pipeline) => {
            let names: Vec<String> = pipeline.jobs.iter().map(|job| job.name.clone()).collect();
            for name in &names {
                assert!(pipeline.job(name).is_some());
            }
            drop(pipeline.select(&names[..names.len().min(1)]));
            for job in &pipeline.jobs {
                let variables = job.variables.iter().map(|variable| Variable {
                    raw: !variable.expand,
                    ..Variable::new(&*variable.key, &*variable.value)
                });
                drop(gantry_pipeline::expand::expand(variables.collect()));
            }
        }
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains(".gitlab-ci.yml"), "{text}");
            assert!(!text.contains('\x1b'));
        }
    }
    if let Err(error) = gantry_pipeline::parse_variables("variables.yml", data) {
        assert!(error.to_string().contains("variables.yml"));
    }
});
