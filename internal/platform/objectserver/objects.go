package objectserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"os"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"makeitso/internal/fault"
)

// Bucket is the content of one bucket.
type Bucket struct {
	Name   string
	Client *s3.Client
}

// Bucket gives the content of a bucket.
func (c Config) Bucket(name string) *Bucket { return &Bucket{Name: name, Client: c.Client()} }

// Client gives a client of the server that may do everything.
func (c Config) Client() *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint: aws.String("http://" + at(c.Port)), UsePathStyle: true, Region: c.Region,
		Credentials: credentials.NewStaticCredentialsProvider(c.AccessKey, c.SecretKey, ""),
	})
}

// Code gives the S3 code of an error, "" if it has none.
func Code(err error) string {
	var answer smithy.APIError
	if !errors.As(err, &answer) {
		return ""
	}
	return answer.ErrorCode()
}

// List gives the ETag of every object by its key; that of an object put by
// Put is the MD5 of its content in hexadecimal digits.
func (b *Bucket) List(ctx context.Context) (map[string]string, error) {
	objects := map[string]string{}
	if err := b.bulk(ctx, http.MethodGet, nil, &objects); err == nil {
		return objects, nil
	}
	// It is a server of an earlier makeitso, or S3 says what is the matter.
	pages := s3.NewListObjectsV2Paginator(b.Client, &s3.ListObjectsV2Input{Bucket: &b.Name})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fault.Wrap(fault.Unavailable, err, "list bucket %s", b.Name)
		}
		for _, o := range page.Contents {
			objects[aws.ToString(o.Key)] = strings.Trim(aws.ToString(o.ETag), `"`)
		}
	}
	return objects, nil
}

// Get writes an object's content to into.
func (b *Bucket) Get(ctx context.Context, key string, into io.Writer) error {
	got, err := b.Client.GetObject(ctx, &s3.GetObjectInput{Bucket: &b.Name, Key: &key})
	if err != nil {
		return fault.Wrap(fault.Unavailable, err, "read %s of bucket %s", key, b.Name)
	}
	defer got.Body.Close()
	_, err = io.Copy(into, got.Body)
	return err
}

// Put stores the file at path under key, with a header such as Content-Type,
// Cache-Control or X-Amz-Meta-….
func (b *Bucket) Put(ctx context.Context, key, path string, header map[string]string) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	defer file.Close()
	return b.Write(ctx, key, file, header)
}

// Write is Put of what content gives.
func (b *Bucket) Write(ctx context.Context, key string, content io.ReadSeeker, header map[string]string) error {
	put := &s3.PutObjectInput{Bucket: &b.Name, Key: &key, Body: content}
	for name, value := range header {
		if err := setHeader(put, name, value); err != nil {
			return fmt.Errorf("put %s: %w", key, err)
		}
	}
	if _, err := b.Client.PutObject(ctx, put); err != nil {
		return fault.Wrap(fault.Unavailable, err, "put %s into bucket %s", key, b.Name)
	}
	return nil
}

const metadataHeader = "X-Amz-Meta-"

// setHeader sets the part of an upload that a header's name stands for.
func setHeader(put *s3.PutObjectInput, name, value string) error {
	name = textproto.CanonicalMIMEHeaderKey(name)
	if key, isMetadata := strings.CutPrefix(name, metadataHeader); isMetadata {
		if put.Metadata == nil {
			put.Metadata = map[string]string{}
		}
		put.Metadata[strings.ToLower(key)] = value
		return nil
	}
	switch name {
	case "Content-Type":
		put.ContentType = &value
	case "Cache-Control":
		put.CacheControl = &value
	case "Content-Encoding":
		put.ContentEncoding = &value
	case "Content-Language":
		put.ContentLanguage = &value
	case "Content-Disposition":
		put.ContentDisposition = &value
	default:
		return fault.New(fault.Invalid, "the header %s cannot be kept with an object; allowed are Content-Type, Cache-Control, Content-Encoding, Content-Language, Content-Disposition and %s…", name, metadataHeader)
	}
	return nil
}

// Delete removes objects; removing what is gone is fine.
func (b *Bucket) Delete(ctx context.Context, keys ...string) error {
	const most = 1000 // that one request may name
	for batch := range slices.Chunk(keys, most) {
		objects := make([]types.ObjectIdentifier, len(batch))
		for i, key := range batch {
			objects[i].Key = &key
		}
		if err := b.deleteBatch(ctx, objects); err != nil {
			return err
		}
	}
	return nil
}

func (b *Bucket) deleteBatch(ctx context.Context, objects []types.ObjectIdentifier) error {
	answer, err := b.Client.DeleteObjects(ctx, &s3.DeleteObjectsInput{
		Bucket: &b.Name, Delete: &types.Delete{Objects: objects, Quiet: aws.Bool(true)},
	})
	if err != nil {
		return fault.Wrap(fault.Unavailable, err, "delete from bucket %s", b.Name)
	}
	if len(answer.Errors) > 0 {
		first := answer.Errors[0]
		return fault.New(fault.Failed, "delete %s from bucket %s: %s", aws.ToString(first.Key), b.Name, aws.ToString(first.Message))
	}
	return nil
}

// Empty removes every object and every older version.
func (b *Bucket) Empty(ctx context.Context) error {
	pages := s3.NewListObjectVersionsPaginator(b.Client, &s3.ListObjectVersionsInput{Bucket: &b.Name})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if Code(err) == "NoSuchBucket" {
			return nil
		}
		if err != nil {
			return fault.Wrap(fault.Unavailable, err, "list bucket %s", b.Name)
		}
		var objects []types.ObjectIdentifier
		for _, v := range page.Versions {
			objects = append(objects, types.ObjectIdentifier{Key: v.Key, VersionId: v.VersionId})
		}
		for _, m := range page.DeleteMarkers {
			objects = append(objects, types.ObjectIdentifier{Key: m.Key, VersionId: m.VersionId})
		}
		if len(objects) == 0 {
			continue
		}
		if err := b.deleteBatch(ctx, objects); err != nil {
			return err
		}
	}
	return nil
}
