//! `Tool`, with the tools of this build.

use super::*;

#[test]
fn calling() {
    let text = prints(
        "local r = Tool.invoke('calculator', {input = '2+2'}) print(r.success, Tool.calculator{input = '2+2'}.success)
         print(Tool.calculator:execute({input = '2+2'}).success, Tool['calculator'].name, Tool.nothing, Tool.exists('calculator'))
         print(#Tool.list() == #Tool:list(), type(Tool.get('calculator').getSchema()), Tool.get('nothing'))
         print(type(Tool.categories()[1]), Tool.search('hash')[1].name, Tool.info('calculator').name)",
    );
    assert_eq!(
        text,
        "true\ttrue\ntrue\tcalculator\tnil\ttrue\ntrue\ttable\tnil\nstring\thash_calculator\tcalculator\n"
    );
}

#[test]
fn a_time_limit_is_a_number_or_text() {
    for limit in ["5", "0.5", "'5s'", "1e6"] {
        let code = format!("print(Tool.invoke('calculator', {{input = '1'}}, {{timeout = {limit}}}).success)");
        assert_eq!(prints(&code), "true\n", "{limit}");
    }
    for limit in ["-1", "0/0", "{}", "true", "'soon'"] {
        let error = failure(&format!("Tool.invoke('calculator', {{input = '1'}}, {{timeout = {limit}}})"));
        assert_eq!(error.class, Class::Usage, "{limit}");
    }
}

#[test]
fn failing() {
    assert_eq!(prints("local r = Tool.calculator{input = '1/0('} print(r.success)"), "false\n");
    assert_eq!(failure("Tool.invoke('calcluator', {})").class, Class::NotFound);
    assert_eq!(failure("Tool.calculator({})").class, Class::Usage);
    assert_eq!(failure("Tool.calculator(5)").class, Class::Usage);
    assert_eq!(failure("Tool.invoke('calculator', {input = '1'}, {timeout = 'soon'})").class, Class::Usage);
}

#[test]
fn what_scripts_of_old_read() {
    let text = prints(
        "local r = tools.calculator{expression = '2+2'}
         print(r.result.result, JSON.parse(r._raw_text).result.result, type(r.text), r.data, r.error, r.nothing)
         print(r.metadata.response.success, r.metadata.operation, next(r.metadata))
         local t = Tool.get('calculator')
         local kinds = {} for _, p in ipairs(t.schema.parameters) do kinds[p.name] = p.type end
         print(t.schema.name, kinds.input, kinds.variables, #t.version > 0, t:getSchema().name)
         local bad = Tool.invoke('calculator', {input = '1 +'})
         print(bad.success, type(bad.error.message), JSON.parse(bad._raw_text).success)
         print(Tool.FileOperationsTool.name, Tool['hash-calculator'].name, Tool.file_reader.name, tools == Tool)
         local n = 0 for k in pairs(r) do n = n + 1 end print(n, JSON.stringify(r):sub(1, 1))",
    );
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "4\t4\tstring\t4\tnil\tnil");
    assert_eq!(lines[1], "true\tevaluate\tduration_ms\t0");
    assert_eq!(lines[2], "calculator\tstring\tobject\ttrue\tcalculator");
    assert_eq!(lines[3], "false\tstring\tfalse");
    assert_eq!(lines[4], "file_operations\thash_calculator\tfile_operations\ttrue");
    assert!(lines[5].ends_with("\t{"), "{text}");
}
