//! Prints a plan without its secrets: values of masked variables, tokens and file contents do not appear.
