"""moto's server, with two things as AWS has them: the outputs of stacks made by change sets, and
whether parameters differ, for which a default that is given is no other than one that is not."""

import sys

from moto.cloudformation.models import CloudFormationBackend, Stack
from moto.server import main

_execute = CloudFormationBackend.execute_change_set


def execute_change_set(self, change_set_name, stack_name=None):
    _execute(self, change_set_name, stack_name)
    for stack in self.stacks.values():
        stack._parse_template()
        stack.output_map = stack._create_output_map()


def has_parameters(self, others):
    def same(ours, theirs):
        return (",".join(ours) if isinstance(ours, list) else str(ours)) == str(theirs)

    return all(same(self.stack_parameters.get(key), value) for key, value in others.items())


CloudFormationBackend.execute_change_set = execute_change_set
Stack.has_parameters = has_parameters
main(["-H", "127.0.0.1", "-p", sys.argv[1]])
