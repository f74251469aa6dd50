package local

import (
	"context"
	"fmt"
	"reflect"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"makeitso/internal/fault"
	"makeitso/internal/platform/machine"
	"makeitso/internal/platform/objectserver"
)

const corsConfiguration = "CorsConfiguration"

// shareOrigins puts in force which pages of other origins may use a bucket:
// none unless that is declared.
func (h bucket) shareOrigins(ctx context.Context, client *s3.Client, r *machine.Resource) error {
	var err error
	if rules := corsRules(r.Properties[corsConfiguration]); rules == nil {
		_, err = client.DeleteBucketCors(ctx, &s3.DeleteBucketCorsInput{Bucket: &r.PhysicalID})
	} else {
		_, err = client.PutBucketCors(ctx, &s3.PutBucketCorsInput{Bucket: &r.PhysicalID, CORSConfiguration: &types.CORSConfiguration{CORSRules: rules}})
	}
	if err != nil {
		return fault.Wrap(fault.Failed, err, "set the %s of bucket %s", corsConfiguration, r.PhysicalID)
	}
	return nil
}

// corsRules gives the CorsConfiguration of a template as S3's API takes it.
func corsRules(declared any) []types.CORSRule {
	configuration, _ := declared.(map[string]any)
	list, _ := configuration["CorsRules"].([]any)
	var rules []types.CORSRule
	for _, v := range list {
		rule := types.CORSRule{
			AllowedOrigins: textsIn(v, "AllowedOrigins"), AllowedMethods: textsIn(v, "AllowedMethods"),
			AllowedHeaders: textsIn(v, "AllowedHeaders"), ExposeHeaders: textsIn(v, "ExposedHeaders"), ID: textIn(v, "Id"),
		}
		if text := textIn(v, "MaxAge"); text != nil {
			if seconds, err := strconv.ParseInt(*text, 10, 32); err == nil { // the registry has seen that it is a number
				rule.MaxAgeSeconds = aws.Int32(int32(seconds))
			}
		}
		rules = append(rules, rule)
	}
	return rules
}

// textsIn gives the list of texts under a key of a value that should be an object.
func textsIn(v any, key string) []string {
	object, _ := v.(map[string]any)
	list, _ := object[key].([]any)
	var texts []string
	for _, item := range list {
		texts = append(texts, fmt.Sprint(item))
	}
	return texts
}

// tellCORS sets the CorsConfiguration among what is told, if one was declared.
func tellCORS(ctx context.Context, client *s3.Client, r *machine.Resource, told map[string]any) error {
	declared := told[corsConfiguration]
	if declared == nil {
		return nil
	}
	is, err := client.GetBucketCors(ctx, &s3.GetBucketCorsInput{Bucket: &r.PhysicalID})
	if objectserver.Code(err) == "NoSuchCORSConfiguration" {
		delete(told, corsConfiguration)
		return nil
	}
	if err != nil {
		return notThere(err, r.PhysicalID)
	}
	if !reflect.DeepEqual(is.CORSRules, corsRules(declared)) {
		told[corsConfiguration] = toldCORS(is.CORSRules)
	}
	return nil
}

// toldCORS gives rules that a bucket has in a template's form.
func toldCORS(rules []types.CORSRule) map[string]any {
	var list []any
	for _, r := range rules {
		rule := map[string]any{}
		putTexts(rule, "AllowedOrigins", r.AllowedOrigins)
		putTexts(rule, "AllowedMethods", r.AllowedMethods)
		putTexts(rule, "AllowedHeaders", r.AllowedHeaders)
		putTexts(rule, "ExposedHeaders", r.ExposeHeaders)
		putText(rule, "Id", r.ID)
		if r.MaxAgeSeconds != nil {
			rule["MaxAge"] = int(*r.MaxAgeSeconds)
		}
		list = append(list, rule)
	}
	return map[string]any{"CorsRules": list}
}

// putTexts sets a list of texts that is there.
func putTexts(object map[string]any, key string, texts []string) {
	var list []any
	for _, text := range texts {
		list = append(list, text)
	}
	if list != nil {
		object[key] = list
	}
}
