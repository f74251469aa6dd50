package local

import (
	"fmt"
	"reflect"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"makeitso/internal/platform/machine"
)

// websiteOf gives the WebsiteConfiguration of a template as S3's API takes it.
func websiteOf(declared any) *types.WebsiteConfiguration {
	c := &types.WebsiteConfiguration{}
	if index := machine.TextIn(declared, "IndexDocument"); index != "" {
		c.IndexDocument = &types.IndexDocument{Suffix: &index}
	}
	if page := machine.TextIn(declared, "ErrorDocument"); page != "" {
		c.ErrorDocument = &types.ErrorDocument{Key: &page}
	}
	website, _ := declared.(map[string]any)
	if all, given := website["RedirectAllRequestsTo"]; given {
		c.RedirectAllRequestsTo = &types.RedirectAllRequestsTo{
			HostName: textIn(all, "HostName"), Protocol: types.Protocol(machine.TextIn(all, "Protocol")),
		}
	}
	rules, _ := website["RoutingRules"].([]any)
	for _, v := range rules {
		rule, _ := v.(map[string]any)
		to := rule["RedirectRule"]
		r := types.RoutingRule{Redirect: &types.Redirect{
			HostName: textIn(to, "HostName"), HttpRedirectCode: textIn(to, "HttpRedirectCode"), Protocol: types.Protocol(machine.TextIn(to, "Protocol")),
			ReplaceKeyPrefixWith: textIn(to, "ReplaceKeyPrefixWith"), ReplaceKeyWith: textIn(to, "ReplaceKeyWith"),
		}}
		if when, given := rule["RoutingRuleCondition"]; given {
			r.Condition = &types.Condition{
				HttpErrorCodeReturnedEquals: textIn(when, "HttpErrorCodeReturnedEquals"), KeyPrefixEquals: textIn(when, "KeyPrefixEquals"),
			}
		}
		c.RoutingRules = append(c.RoutingRules, r)
	}
	return c
}

// textIn gives the text or number under a key of a value that should be an
// object, nil if there is none.
func textIn(v any, key string) *string {
	object, _ := v.(map[string]any)
	if object[key] == nil {
		return nil
	}
	return aws.String(fmt.Sprint(object[key]))
}

// toldWebsite gives the WebsiteConfiguration that a bucket has in a template's
// form: as it was declared, if it means the same.
func toldWebsite(declared any, is *s3.GetBucketWebsiteOutput) any {
	c := &types.WebsiteConfiguration{
		IndexDocument: is.IndexDocument, ErrorDocument: is.ErrorDocument,
		RedirectAllRequestsTo: is.RedirectAllRequestsTo, RoutingRules: is.RoutingRules,
	}
	if reflect.DeepEqual(c, websiteOf(declared)) {
		return declared
	}
	told := map[string]any{}
	if c.IndexDocument != nil {
		putText(told, "IndexDocument", c.IndexDocument.Suffix)
	}
	if c.ErrorDocument != nil {
		putText(told, "ErrorDocument", c.ErrorDocument.Key)
	}
	if all := c.RedirectAllRequestsTo; all != nil {
		to := map[string]any{}
		putText(to, "HostName", all.HostName)
		putText(to, "Protocol", aws.String(string(all.Protocol)))
		told["RedirectAllRequestsTo"] = to
	}
	var rules []any
	for _, r := range c.RoutingRules {
		to := map[string]any{}
		putText(to, "HostName", r.Redirect.HostName)
		putText(to, "HttpRedirectCode", r.Redirect.HttpRedirectCode)
		putText(to, "Protocol", aws.String(string(r.Redirect.Protocol)))
		putText(to, "ReplaceKeyPrefixWith", r.Redirect.ReplaceKeyPrefixWith)
		putText(to, "ReplaceKeyWith", r.Redirect.ReplaceKeyWith)
		rule := map[string]any{"RedirectRule": to}
		if r.Condition != nil {
			when := map[string]any{}
			putText(when, "HttpErrorCodeReturnedEquals", r.Condition.HttpErrorCodeReturnedEquals)
			putText(when, "KeyPrefixEquals", r.Condition.KeyPrefixEquals)
			rule["RoutingRuleCondition"] = when
		}
		rules = append(rules, rule)
	}
	if rules != nil {
		told["RoutingRules"] = rules
	}
	return told
}

// putText sets a text that is there.
func putText(object map[string]any, key string, text *string) {
	if aws.ToString(text) != "" {
		object[key] = *text
	}
}
