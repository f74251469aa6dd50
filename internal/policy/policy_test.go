package policy_test

import (
	"strings"
	"testing"

	"makeitso/internal/fault"
	"makeitso/internal/policy"
)

func TestParse(t *testing.T) {
	good := `{"Effect": "Allow", "Principal": "*", "Action": "Update:*", "Resource": "*"}`
	for _, test := range []struct{ text, want string }{
		{`{"Statement": [` + good + `]}`, ""},
		{`{"Statement": [` + strings.Replace(good, `"Update:*"`, `["Update:Modify", "Update:Delete"]`, 1) + `]}`, ""},
		{`{"Statement": []}`, "it has no Statement"},
		{`{"Statement": [` + good + `], "Version": "1"}`, `unknown field "Version"`},
		{`{"Statement": [` + good, "unexpected EOF"},
		{`{"Statement": [` + good + `, ` + strings.Replace(good, "Allow", "Permit", 1) + `]}`, "statement 2: Effect is Allow or Deny, not Permit"},
		{`{"Statement": [` + strings.Replace(good, `"*"`, `"me"`, 1) + `]}`, `statement 1: Principal is "*", not me`},
		{`{"Statement": [` + strings.Replace(good, "Update:*", "Update:Move", 1) + `]}`, "statement 1: unknown action Update:Move"},
		{`{"Statement": [` + strings.Replace(good, `"Resource"`, `"NotAction"`, 1) + `]}`, "statement 1: a statement has either Action or NotAction"},
		{`{"Statement": [` + strings.Replace(good, `, "Resource": "*"`, "", 1) + `]}`, "statement 1: a statement has either Resource or NotResource"},
		{`{"Statement": [` + strings.Replace(good, `"Resource": "*"`, `"Resource": "Bucket"`, 1) + `]}`, "a resource is * or LogicalResourceId/NAME, not Bucket"},
		{`{"Statement": [` + strings.Replace(good, `"Effect"`, `"Condition": {"Bool": {}}, "Effect"`, 1) + `]}`, "a condition is StringEquals or StringLike, not Bool"},
	} {
		_, err := policy.Parse(test.text)
		if test.want == "" && err != nil {
			t.Errorf("%s: %v", test.text, err)
		}
		if test.want != "" && (!fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "Invalid stack policy: ") || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s answered %v, want %q", test.text, err, test.want)
		}
	}
}

func TestAllows(t *testing.T) {
	statement := func(fields string) string { return `{"Principal": "*", ` + fields + `}` }
	everything := statement(`"Effect": "Allow", "Action": "Update:*", "Resource": "*"`)
	for _, test := range []struct {
		name, statements string
		denied           string // what is not allowed to Bucket and Table, of modify, replace and delete
	}{
		{"all is allowed", everything, ""},
		{"what is not allowed is denied", statement(`"Effect": "Allow", "Action": "Update:Modify", "Resource": "*"`),
			"replace Bucket, delete Bucket, replace Table, delete Table"},
		{"one that denies outweighs", everything + "," + statement(`"Effect": "Deny", "Action": ["Update:Replace", "Update:Delete"], "Resource": "LogicalResourceId/Buck*"`),
			"replace Bucket, delete Bucket"},
		{"all but", everything + "," + statement(`"Effect": "Deny", "NotAction": "Update:Modify", "NotResource": "LogicalResourceId/Table"`),
			"replace Bucket, delete Bucket"},
		{"by type", everything + "," + statement(`"Effect": "Deny", "Action": "Update:*", "Resource": "*", "Condition": {"StringEquals": {"ResourceType": ["AWS::DynamoDB::Table"]}}`),
			"modify Table, replace Table, delete Table"},
		{"by a type's pattern", everything + "," + statement(`"Effect": "Deny", "Action": "Update:Delete", "Resource": "*", "Condition": {"StringLike": {"ResourceType": "AWS::*::B*"}}`),
			"delete Bucket"},
		{"a pattern is no equal", everything + "," + statement(`"Effect": "Deny", "Action": "Update:Delete", "Resource": "*", "Condition": {"StringEquals": {"ResourceType": "AWS::*"}}`), ""},
		{"a pattern of many parts", everything + "," + statement(`"Effect": "Deny", "Action": "Update:Delete", "Resource": "*", "Condition": {"StringLike": {"ResourceType": "`+strings.Repeat("*", 1000)+`!"}}`), ""},
	} {
		p, err := policy.Parse(`{"Statement": [` + test.statements + `]}`)
		if err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		var denied []string
		for _, r := range [][2]string{{"Bucket", "AWS::S3::Bucket"}, {"Table", "AWS::DynamoDB::Table"}} {
			for _, action := range []string{policy.Modify, policy.Replace, policy.Delete} {
				if !p.Allows(action, r[0], r[1]) {
					denied = append(denied, strings.ToLower(strings.TrimPrefix(action, "Update:"))+" "+r[0])
				}
			}
		}
		if got := strings.Join(denied, ", "); got != test.denied {
			t.Errorf("%s: denied are %q, want %q", test.name, got, test.denied)
		}
	}
}
