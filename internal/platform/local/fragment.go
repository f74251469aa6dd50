package local

import (
	"context"
	"io"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"makeitso/internal/fault"
	"makeitso/internal/platform/objectserver"
)

// maxFragment is the largest object that is read as a template or a part of one.
const maxFragment = 1 << 20

// Fragment implements stack.FragmentStore: it reads s3://bucket/key from a
// bucket of the environment.
func (p *Platform) Fragment(ctx context.Context, location string) ([]byte, error) {
	name, key, _ := strings.Cut(strings.TrimPrefix(location, "s3://"), "/")
	if !strings.HasPrefix(location, "s3://") || name == "" || key == "" {
		return nil, fault.New(fault.Invalid, "%q is no s3://bucket/key", location)
	}
	bucket, err := p.Bucket(name)
	if err == nil {
		err = p.storeAlive()
	}
	if err != nil {
		return nil, err
	}
	object, err := bucket.Client.GetObject(ctx, &s3.GetObjectInput{Bucket: &name, Key: &key})
	if objectserver.Code(err) == "NoSuchKey" {
		return nil, fault.New(fault.NotFound, "bucket %s has no object %s", name, key).WithHint("put it there first, with any S3 client")
	}
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "read %s", location)
	}
	defer object.Body.Close()
	text, err := io.ReadAll(io.LimitReader(object.Body, maxFragment+1))
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "read %s", location)
	}
	if len(text) > maxFragment {
		return nil, fault.New(fault.Invalid, "%s has more than %d bytes, too many for a part of a template", location, maxFragment)
	}
	return text, nil
}
