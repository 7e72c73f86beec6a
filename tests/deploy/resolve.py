"""A template as CloudFormation sees it once the parameters are known: conditions, rules, functions.

What only AWS knows (attributes, generated names) stays as it is written.
"""

import re

ABSENT = object()


class Resolved:
    def __init__(self, template, zones=3, **parameters):
        unknown = set(parameters) - set(template["Parameters"])
        assert not unknown, f"no such parameter: {unknown}"
        self.template = template
        self.zones = [f"eu-west-1{letter}" for letter in "abcdef"[:zones]]
        self.values = {
            "AWS::StackName": "kv", "AWS::Region": "eu-west-1", "AWS::Partition": "aws",
            "AWS::AccountId": "123456789012", "AWS::URLSuffix": "amazonaws.com", "AWS::NoValue": ABSENT,
        }  # fmt: skip
        for name, one in template["Parameters"].items():
            value = str(parameters.get(name, one.get("Default", f"{name}-given")))
            self.values[name] = value.split(",") if "List" in one["Type"] else value
        self.resources = {
            name: self.value({**one, "Condition": None})
            for name, one in template["Resources"].items()
            if "Condition" not in one or self.holds(one["Condition"])
        }
        self.outputs = {
            name: self.value(one["Value"])
            for name, one in template["Outputs"].items()
            if "Condition" not in one or self.holds(one["Condition"])
        }

    def __getitem__(self, name):
        return self.resources[name]["Properties"]

    def __contains__(self, name):
        return name in self.resources

    def of_type(self, kind):
        return {name: one["Properties"] for name, one in self.resources.items() if one["Type"] == kind}

    def refusals(self):
        """What the rules say against these parameters; those that ask AWS are left out."""
        found = []
        for rule in self.template.get("Rules", {}).values():
            if "ValueOfAll" in str(rule) or not self.judge(rule.get("RuleCondition", {"Fn::Equals": ["", ""]})):
                continue
            found += [one["AssertDescription"] for one in rule["Assertions"] if not self.judge(one["Assert"])]
        return found

    def holds(self, name):
        return self.judge(self.template["Conditions"][name])

    def judge(self, test):
        ((function, of),) = test.items()
        if function == "Condition":
            return self.holds(of)
        if function == "Fn::Equals":
            left, right = (str(self.value(one)) for one in of)
            return left == right
        if function == "Fn::Not":
            return not self.judge(of[0])
        return {"Fn::And": all, "Fn::Or": any}[function](self.judge(one) for one in of)

    def value(self, node):
        if isinstance(node, list):
            return [found for found in map(self.value, node) if found is not ABSENT]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            ((function, of),) = node.items()
            if function == "Ref":
                return self.values.get(of, node)
            if function.startswith("Fn::") and hasattr(self, function[4:]):
                return getattr(self, function[4:])(of)
        found = {name: self.value(one) for name, one in node.items()}
        return {name: one for name, one in found.items() if one is not ABSENT}

    def If(self, of):
        return self.value(of[1] if self.holds(of[0]) else of[2])

    def Join(self, of):
        return of[0].join(map(str, self.value(of[1])))

    def Split(self, of):
        return str(self.value(of[1])).split(of[0])

    def Select(self, of):
        found = self.value(of[1])
        return found[int(of[0])] if isinstance(found, list) else found

    def GetAZs(self, _):
        return self.zones

    def Cidr(self, of):
        return [f"{self.value(of[0])}#{n}" for n in range(of[1])]

    def FindInMap(self, of):
        name, top, second = map(self.value, of)
        return self.template["Mappings"][name][top][second]

    def Sub(self, of):
        text, local = (of, {}) if isinstance(of, str) else (of[0], {k: self.value(v) for k, v in of[1].items()})

        def one(match):
            value = local.get(match[1], self.values.get(match[1], match[0]))
            if not isinstance(value, dict):
                return str(value)
            # What AWS alone knows stays readable: ${LoadBalancer.DNSName}, ${Bucket}.
            (known,) = value.values()
            return f"${{{known if isinstance(known, str) else '.'.join(known)}}}"

        return re.sub(r"\$\{([\w:.]+)\}", one, text)
