package objectserver

import (
	"context"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/s3response"
)

// durable keeps what S3 promises: what was answered is on the disk. The gateway
// leaves that to the system, by which a machine that fails a moment later has
// empty files. Parts of an upload get there when it is completed.
type durable struct {
	*posix.Posix
	disk *disk
}

func (d durable) PutObject(ctx context.Context, in s3response.PutObjectInput) (out s3response.PutObjectOutput, err error) {
	if out, err = d.Posix.PutObject(ctx, in); err == nil {
		err = d.disk.sync()
	}
	return out, err
}

func (d durable) CopyObject(ctx context.Context, in s3response.CopyObjectInput) (out s3response.CopyObjectOutput, err error) {
	if out, err = d.Posix.CopyObject(ctx, in); err == nil {
		err = d.disk.sync()
	}
	return out, err
}

func (d durable) CompleteMultipartUpload(ctx context.Context, in *s3.CompleteMultipartUploadInput) (out s3response.CompleteMultipartUploadResult, version string, err error) {
	if out, version, err = d.Posix.CompleteMultipartUpload(ctx, in); err == nil {
		err = d.disk.sync()
	}
	return out, version, err
}

func (d durable) DeleteObject(ctx context.Context, in *s3.DeleteObjectInput) (out *s3.DeleteObjectOutput, err error) {
	if out, err = d.Posix.DeleteObject(ctx, in); err == nil {
		err = d.disk.sync()
	}
	return out, err
}

func (d durable) DeleteObjects(ctx context.Context, in *s3.DeleteObjectsInput) (out s3response.DeleteResult, err error) {
	if out, err = d.Posix.DeleteObjects(ctx, in); err == nil {
		err = d.disk.sync()
	}
	return out, err
}

func (d durable) CreateBucket(ctx context.Context, in *s3.CreateBucketInput, acl []byte) error {
	if err := d.Posix.CreateBucket(ctx, in, acl); err != nil {
		return err
	}
	return d.disk.sync()
}

// disk has what was written kept by the disk. Those who ask while that is done
// share the next time.
type disk struct {
	write func() error // all there is, to the disk
	one   sync.Mutex   // held while that is done
	mu    sync.Mutex   // of next
	next  *writing
}

// writing is one time, and how it ended.
type writing struct {
	done chan struct{}
	err  error
}

// sync returns when all that was there before is on the disk.
func (d *disk) sync() error {
	d.mu.Lock()
	w := d.next
	leads := w == nil
	if leads {
		w = &writing{done: make(chan struct{})}
		d.next = w
	}
	d.mu.Unlock()
	if leads {
		d.one.Lock()
		d.mu.Lock()
		d.next = nil // who comes from here on may come too late for it
		d.mu.Unlock()
		w.err = d.write()
		d.one.Unlock()
		close(w.done)
	}
	<-w.done
	return w.err
}
