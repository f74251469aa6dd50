package local

import (
	"fmt"
	"net/http"
	"reflect"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"makeitso/internal/platform/machine"
	"makeitso/internal/platform/machine/machinetest"
)

// A browser asks a bucket before a page of another origin may use it.
func TestPagesOfOtherOrigins(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, Options{})
	cors := map[string]any{"CorsRules": []any{map[string]any{
		"AllowedOrigins": []any{"http://shop.localhost"}, "AllowedMethods": []any{"PUT"}, "AllowedHeaders": []any{"*"},
		"ExposedHeaders": []any{"ETag"}, "MaxAge": 600, "Id": "uploads",
	}}}
	r := machinetest.Request("AWS::S3::Bucket", "Files", map[string]any{corsConfiguration: cors})
	made := machinetest.Create(t, p, r)
	c, err := p.storeConfig()
	if err != nil {
		t.Fatal(err)
	}
	asked := func(origin string) (allowed string) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodOptions, fmt.Sprintf("http://127.0.0.1:%d/%s/picture", c.Port, made.PhysicalID), nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Origin", origin)
		request.Header.Set("Access-Control-Request-Method", http.MethodPut)
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		if err := answer.Body.Close(); err != nil {
			t.Fatal(err)
		}
		return answer.Header.Get("Access-Control-Allow-Origin")
	}
	if allowed := asked("http://shop.localhost"); allowed != "http://shop.localhost" {
		t.Errorf("the declared origin gets %q", allowed)
	}
	if allowed := asked("http://other.localhost"); allowed != "" {
		t.Errorf("another origin gets %q", allowed)
	}

	res := &machine.Resource{}
	res.PhysicalID, res.Properties = made.PhysicalID, map[string]any{corsConfiguration: cors}
	h := bucket{p}
	if told, err := h.Tell(t.Context(), res); err != nil || !reflect.DeepEqual(told[corsConfiguration], cors) {
		t.Errorf("told is %v, %v; want what was declared", told, err)
	}
	_, err = c.Client().PutBucketCors(t.Context(), &s3.PutBucketCorsInput{Bucket: &made.PhysicalID, CORSConfiguration: &types.CORSConfiguration{CORSRules: []types.CORSRule{{
		AllowedOrigins: []string{"*"}, AllowedMethods: []string{"PUT"}, MaxAgeSeconds: aws.Int32(5),
	}}}})
	if err != nil {
		t.Fatal(err)
	}
	changed := map[string]any{"CorsRules": []any{map[string]any{"AllowedOrigins": []any{"*"}, "AllowedMethods": []any{"PUT"}, "MaxAge": 5}}}
	if told, err := h.Tell(t.Context(), res); err != nil || !reflect.DeepEqual(told[corsConfiguration], changed) {
		t.Errorf("told is %v, %v; want %v", told, err, changed)
	}

	r.PhysicalID, r.Properties = made.PhysicalID, map[string]any{}
	if _, err := machinetest.Handler(t, p, r.Type).Update(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if allowed := asked("http://shop.localhost"); allowed != "" {
		t.Errorf("without a CorsConfiguration %q is allowed", allowed)
	}
}
