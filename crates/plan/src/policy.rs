//! What the log says of the policy that made a job (job-lifecycle §8).

use gantry_job::payload::PolicyOptions;

/// Lines before the first script; none for a job of the project's own pipeline.
pub(crate) fn lines(options: &PolicyOptions) -> Vec<String> {
    if !options.execution_policy_job {
        return Vec::new();
    }
    let triggered = format!("Job triggered by policy \"{}\".", options.policy_name);
    let Some(allowed) = options.policy_variables_override_allowed else {
        let enforced = "Variables defined in the policy take precedence over matching user-defined CI/CD variables for this job.";
        return vec![triggered, enforced.to_owned()];
    };
    let exceptions = &options.policy_variables_override_exceptions;
    let variables = format!(
        "User-defined CI/CD variables are {} in this job{} according to the pipeline execution policy.",
        if allowed { "allowed" } else { "ignored" },
        if exceptions.is_empty() {
            String::new()
        } else {
            format!(" (except for {})", exceptions.join(", "))
        }
    );
    vec![triggered, variables]
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::unsaid(
        None,
        &[],
        "Variables defined in the policy take precedence over matching user-defined CI/CD variables for this job."
    )]
    #[case::allowed(
        Some(true),
        &[],
        "User-defined CI/CD variables are allowed in this job according to the pipeline execution policy."
    )]
    #[case::ignored_but_for_some(
        Some(false),
        &["A", "B"],
        "User-defined CI/CD variables are ignored in this job (except for A, B) according to the pipeline execution policy."
    )]
    fn a_job_of_a_policy_says_so_and_what_becomes_of_variables(
        #[case] allowed: Option<bool>,
        #[case] exceptions: &[&str],
        #[case] says: &str,
    ) {
        let options = PolicyOptions {
            execution_policy_job: true,
            policy_name: "Scan".to_owned(),
            policy_variables_override_allowed: allowed,
            policy_variables_override_exceptions: exceptions
                .iter()
                .map(ToString::to_string)
                .collect(),
        };
        assert_eq!(lines(&options), ["Job triggered by policy \"Scan\".", says]);
    }

    #[test]
    fn another_job_says_nothing() {
        let options = PolicyOptions {
            policy_name: "Scan".to_owned(),
            ..PolicyOptions::default()
        };
        assert!(lines(&options).is_empty());
    }
}
