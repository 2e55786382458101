//! Scripts are read by a grammar of PowerShell: whatever is put into them, they are commands and strings and nothing else.

use proptest::prelude::*;
use tree_sitter::{Node, Parser, Tree};

use super::*;

fn parsed(text: &str) -> Tree {
    let mut parser = Parser::new();
    parser
        .set_language(&tree_sitter_pwsh::LANGUAGE.into())
        .unwrap();
    parser.parse(text, None).unwrap()
}

/// What the grammar does not understand, or misses.
fn faults(node: Node<'_>, text: &str, found: &mut Vec<String>) {
    if node.is_error() || node.is_missing() {
        let at = node.start_position();
        let shown = &text[node.byte_range()];
        found.push(format!("line {}: {shown:?}", at.row + 1));
        return;
    }
    if node.has_error() {
        let mut cursor = node.walk();
        for child in node.children(&mut cursor) {
            faults(child, text, found);
        }
    }
}

fn assert_read(text: &str) {
    let mut found = Vec::new();
    faults(parsed(text).root_node(), text, &mut found);
    assert!(found.is_empty(), "{found:?} in\n{text}");
}

/// What text must not get out of a string by.
fn nasty() -> Vec<String> {
    let mut texts: Vec<String> = [
        "",
        " ",
        "it's",
        "say \"hello\"",
        "`$(Get-Process)`",
        "$(throw 1) ${env:PATH} $x $ $$ $? $^",
        "#> <# comment #>",
        "# comment",
        "@\"\nhere\n\"@",
        "@'\nhere\n'@",
        "}\n}\nthrow 1\n& {",
        ")]};|&&||",
        "one\ntwo\r\nthree\rfour",
        "a\\",
        "a`",
        "``\"``\"",
        "\t\x0b\x0c\x07\x08\x1b[31m",
        "a\0b",
        "“typographic” „quotes‟ ‘single’ ‚low‛",
        "é ñ 🦀 \u{2028}\u{85}\u{a0}\u{feff}",
        "--% raw",
        "-n",
        "100% @array %{ $_ } ?{ }",
    ]
    .map(str::to_owned)
    .to_vec();
    texts.push("x\"'`$#".repeat(500));
    texts
}

#[test]
fn a_script_can_be_read_whatever_stands_in_it() {
    for text in nasty() {
        let variables = Variables::from(vec![
            Variable::new("A", text.clone()),
            Variable {
                file: true,
                ..Variable::new("FILE", text.clone())
            },
            Variable::new(text.clone(), "a value of an odd name"),
        ]);
        // Text of the job is shown and run; what is run is the job's affair, so here it is well-formed.
        let commands = [
            "Write-Host 'one'".to_owned(),
            "if ($true) {\n  Write-Host \"two\"\n}".to_owned(),
            String::new(),
        ];
        for (sections, kind) in [
            (false, ScriptKind::AfterScript),
            (
                true,
                ScriptKind::Step {
                    pre_build_script: "Get-Date",
                    post_build_script: "Get-Location\nGet-Date",
                },
            ),
        ] {
            let mut flags = FeatureFlags::default();
            flags.set(FeatureFlag::ScriptSections, sections);
            let rendered = BuildScript {
                shell: Shell::Pwsh,
                kind,
                commands: &commands,
                variables: &variables,
                project_dir: &format!("/builds/{text}"),
                tmp_dir: &format!("/builds/{text}.tmp"),
                create_project_dir: true,
                flags: &flags,
                debug_trace: sections,
                trace_sections: true,
                start_nonce: Some("mark"),
            }
            .render();
            assert_read(&rendered.script);
        }
    }
}

/// The echo of a command, which may be any text.
#[test]
fn the_echo_of_a_command_is_one_string() {
    for text in nasty() {
        let mut body = String::new();
        push_notice(&mut body, &text);
        assert_read(&body);
        assert_one_string(&quoted(&text));
    }
}

fn assert_one_string(text: &str) {
    let tree = parsed(text);
    let mut node = tree.root_node();
    assert!(!node.has_error(), "{text:?}: {}", node.to_sexp());
    while node.kind() != "expandable_string_literal" {
        assert_eq!(
            node.named_child_count(),
            1,
            "{text:?}: {}",
            tree.root_node().to_sexp()
        );
        node = node.named_child(0).unwrap();
    }
    assert_eq!(node.byte_range(), 0..text.len());
    // Variables and sub-expressions in it would be children.
    assert_eq!(node.named_child_count(), 0, "{text:?}: {}", node.to_sexp());
}

proptest! {
    #[test]
    fn any_text_is_one_string_without_anything_in_it(text in "[\\PC\\n\\r\\t`\"$#'@{}()“”„]{0,40}") {
        assert_one_string(&quoted(&text));
    }
}
