package objectserver

import (
	"archive/tar"
	"bytes"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/s3response"
)

// Those who ask while the disk is written to wait for the next time, together:
// what they have written may have come too late for this one.
func TestDiskIsWrittenOnceForAllWhoWait(t *testing.T) {
	began, goOn := make(chan struct{}), make(chan error)
	d := &disk{write: func() error { began <- struct{}{}; return <-goOn }}
	first := make(chan error)
	go func() { first <- d.sync() }()
	<-began
	const many = 10
	later := make(chan error, many)
	var asked sync.WaitGroup
	for range many {
		asked.Add(1)
		go func() { asked.Done(); later <- d.sync() }()
	}
	asked.Wait()
	goOn <- nil
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	broken := errors.New("the disk is broken")
	failed, times := 0, 0
	for failed < many {
		select {
		case err := <-later:
			if !errors.Is(err, broken) {
				t.Fatalf("one that asked later got %v from a write that began before", err)
			}
			failed++
		case <-began:
			times++
			goOn <- broken
		}
	}
	if times > many/2 { // a few may ask only now, and not all
		t.Errorf("it was written %d times for %d who waited", times, many)
	}
}

// What is answered is on the disk: an answer comes after the disk was written to,
// and is no success if that fails.
func TestAnswersAreOnTheDisk(t *testing.T) {
	t.Chdir(t.TempDir()) // the gateway changes into its folder
	root := t.TempDir()
	if (meta.XattrMeta{}).Test(root) != nil {
		t.Skip("needs a file system with extended attributes")
	}
	files, err := posix.New(root, meta.XattrMeta{}, posix.PosixOpts{ForceNoObjLockFile: true, Concurrency: 8, CopyObjectThreshold: 5 << 30})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(files.Shutdown)
	var full error
	times := 0
	store := durable{files, &disk{write: func() error { times++; return full }}}
	ctx, bucket := t.Context(), aws.String("bucket")
	object := func(key string) s3response.PutObjectInput {
		return s3response.PutObjectInput{Bucket: bucket, Key: &key, Body: strings.NewReader("text"), ContentLength: aws.Int64(4)}
	}
	upload := func(t *testing.T) (id string, parts []types.CompletedPart) {
		begun, err := store.CreateMultipartUpload(ctx, s3response.CreateMultipartUploadInput{Bucket: bucket, Key: aws.String("parts")})
		if err != nil {
			t.Fatal(err)
		}
		part, err := store.UploadPart(ctx, &s3.UploadPartInput{
			Bucket: bucket, Key: aws.String("parts"), UploadId: &begun.UploadId, PartNumber: aws.Int32(1), Body: strings.NewReader("text"), ContentLength: aws.Int64(4),
		})
		if err != nil {
			t.Fatal(err)
		}
		return begun.UploadId, []types.CompletedPart{{PartNumber: aws.Int32(1), ETag: part.ETag}}
	}
	if err := store.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: bucket, CreateBucketConfiguration: &types.CreateBucketConfiguration{}}, nil); err != nil || times != 1 {
		t.Fatalf("CreateBucket: %v, the disk was written to %d times", err, times)
	}
	for _, one := range []struct {
		name string
		do   func(t *testing.T) error
	}{
		{"PutObject", func(*testing.T) error { _, err := store.PutObject(ctx, object("a")); return err }},
		{"CopyObject", func(*testing.T) error {
			_, err := store.CopyObject(ctx, s3response.CopyObjectInput{Bucket: bucket, Key: aws.String("b"), CopySource: aws.String("bucket/a"), ExpectedBucketOwner: aws.String("")})
			return err
		}},
		{"CompleteMultipartUpload", func(t *testing.T) error {
			id, parts := upload(t)
			_, _, err := store.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
				Bucket: bucket, Key: aws.String("parts"), UploadId: &id, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
			})
			return err
		}},
		{"an archive of two", func(t *testing.T) error {
			var archive bytes.Buffer
			w := tar.NewWriter(&archive)
			for _, key := range []string{"c", "d"} {
				if err := w.WriteHeader(&tar.Header{Name: key, Size: 4, Typeflag: tar.TypeReg, Mode: 0o600}); err != nil {
					t.Fatal(err)
				}
				if _, err := w.Write([]byte("text")); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			return bulkServer{files: files, disk: store.disk}.putAll(ctx, *bucket, tar.NewReader(&archive), func(string) error { return nil })
		}},
		{"DeleteObject", func(*testing.T) error {
			_, err := store.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: bucket, Key: aws.String("b")})
			return err
		}},
		{"DeleteObjects", func(*testing.T) error {
			_, err := store.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: bucket, Delete: &types.Delete{Objects: []types.ObjectIdentifier{{Key: aws.String("b")}}}})
			return err
		}},
	} {
		t.Run(one.name, func(t *testing.T) {
			full, times = nil, 0
			if err := one.do(t); err != nil || times != 1 {
				t.Errorf("%v; the disk was written to %d times, want once", err, times)
			}
			full = errors.New("the disk is full")
			if err := one.do(t); !errors.Is(err, full) {
				t.Errorf("where the disk cannot be written to: %v", err)
			}
		})
	}
}
