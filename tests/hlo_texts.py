"""A small compiled program as text, and lines of it in forms that no release has written yet."""
PROGRAM = """HloModule jit_f, entry_computation_layout={(f32[2,3]{1,0})->f32[2,3]{1,0}}

ENTRY %main.3 (x.1: f32[2,3]) -> f32[2,3] {
  %x.1 = f32[2,3]{1,0} parameter(0), metadata={op_name="x"}
  ROOT %add.2 = f32[2,3]{1,0} add(%x.1, %x.1), metadata={op_name="jit(f)/add"}
}
"""
# What another release might write instead, and how.
STRANGE = {
    'opcode': PROGRAM.replace(' add(', ' Add.v2('),
    'assignment': PROGRAM.replace('%add.2 = ', '%add.2 := '),
    'indentation': PROGRAM.replace('  ROOT', '      ROOT'),
    'type': PROGRAM.replace('ROOT %add.2 = f32[2,3]{1,0} add', 'ROOT %add.2 = add'),
    'operands': PROGRAM.replace('add(%x.1, %x.1)', 'add(%x.1, %x.1'),
    'trailing line': PROGRAM.replace('\n}', '\n  schedule: 0 1\n}')}
