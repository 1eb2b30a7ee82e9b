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
fn failing() {
    assert_eq!(prints("local r = Tool.calculator{input = '1/0('} print(r.success)"), "false\n");
    assert_eq!(failure("Tool.invoke('calcluator', {})").class, Class::NotFound);
    assert_eq!(failure("Tool.calculator({})").class, Class::Usage);
    assert_eq!(failure("Tool.calculator(5)").class, Class::Usage);
    assert_eq!(failure("Tool.invoke('calculator', {input = '1'}, {timeout = 'soon'})").class, Class::Usage);
}
