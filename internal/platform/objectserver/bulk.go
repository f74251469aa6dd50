package objectserver

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// Many small objects are put by one request, and all ETags of a bucket read by
// one, at a path of our own. What comes of it is the same as by S3.
const (
	bulkPath   = "/_bulk/" // and the bucket's name
	bulkHeader = "X-Makeitso-Bulk"
	// What one request carries: enough that its own costs do not count, little
	// enough that several are on their way at a time.
	bulkFiles = 64
	bulkBytes = 1 << 20
	bulkAside = 4 // requests at a time
	// headerRecord is before the name of each header in an archive's entry.
	headerRecord = "MAKEITSO."
)

// PutFiles stores files side by side: paths gives the file of each key, header
// the header of a key as for Put. It gives the keys that are there. After a
// failure it begins with no other file but waits for those under way, and the
// keys are those too that may have come to be.
func (b *Bucket) PutFiles(ctx context.Context, paths map[string]string, header func(key string) map[string]string) (put []string, err error) {
	batches, err := inBatches(paths)
	if err != nil {
		return nil, err
	}
	going, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var mu sync.Mutex // of put
	var putting sync.WaitGroup
	places := make(chan struct{}, bulkAside)
	for _, keys := range batches {
		places <- struct{}{}
		if going.Err() != nil {
			break
		}
		putting.Go(func() {
			defer func() { <-places }()
			tried, err := b.putBatch(ctx, keys, paths, header)
			mu.Lock()
			defer mu.Unlock()
			put = append(put, tried...)
			if err != nil {
				fail(err)
			}
		})
	}
	putting.Wait()
	return put, context.Cause(going)
}

// inBatches parts the keys so that each request carries a fair share. A file
// that is large goes alone.
func inBatches(paths map[string]string) ([][]string, error) {
	var batches [][]string
	var batch []string
	var size int64
	for _, key := range slices.Sorted(maps.Keys(paths)) {
		info, err := os.Stat(paths[key])
		if err != nil {
			return nil, fmt.Errorf("put %s: %w", key, err)
		}
		if len(batch) == bulkFiles || len(batch) > 0 && size+info.Size() > bulkBytes {
			batches, batch, size = append(batches, batch), nil, 0
		}
		batch, size = append(batch, key), size+info.Size()
	}
	return append(batches, batch), nil
}

// putBatch puts the files of keys and gives the keys that are there, or may be
// after a failure.
func (b *Bucket) putBatch(ctx context.Context, keys []string, paths map[string]string, header func(key string) map[string]string) ([]string, error) {
	alone := len(keys) == 1
	if !alone {
		archive, err := pack(keys, paths, header)
		if err != nil {
			return nil, err
		}
		if err = b.bulk(ctx, http.MethodPut, bytes.NewReader(archive), nil); err == nil || ctx.Err() != nil {
			return keys, err
		}
		// The server can be one of an earlier makeitso, or may just be coming
		// back. One by one it is asked in the way of S3, by a client that tries
		// again, and what fails is known by its name.
	}
	for i, key := range keys {
		if err := b.Put(ctx, key, paths[key], header(key)); err != nil {
			if alone {
				return keys[:i], err
			}
			return keys, err
		}
	}
	return keys, nil
}

// pack makes the archive of one request.
func pack(keys []string, paths map[string]string, header func(key string) map[string]string) ([]byte, error) {
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for _, key := range keys {
		content, err := os.ReadFile(paths[key])
		if err != nil {
			return nil, fmt.Errorf("put %s: %w", key, err)
		}
		entry := &tar.Header{Typeflag: tar.TypeReg, Name: key, Size: int64(len(content)), PAXRecords: map[string]string{}}
		for name, value := range header(key) {
			entry.PAXRecords[headerRecord+name] = value
		}
		if err := w.WriteHeader(entry); err != nil {
			return nil, fmt.Errorf("put %s: %w", key, err)
		}
		if _, err := w.Write(content); err != nil {
			return nil, fmt.Errorf("put %s: %w", key, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("put %d files: %w", len(keys), err)
	}
	return archive.Bytes(), nil
}

// bulk makes one request of our own about the bucket and decodes the answer if
// one is wanted.
func (b *Bucket) bulk(ctx context.Context, method string, body io.Reader, into any) (err error) {
	o := b.Client.Options()
	request, err := http.NewRequestWithContext(ctx, method, aws.ToString(o.BaseEndpoint)+bulkPath+b.Name, body)
	if err != nil {
		return err
	}
	keys, err := o.Credentials.Retrieve(ctx)
	if err != nil {
		return err
	}
	// What is sent stays on this machine: its digest would only cost time.
	const unsigned = "UNSIGNED-PAYLOAD"
	request.Header.Set("X-Amz-Content-Sha256", unsigned)
	request.Header.Set(bulkHeader, "1")
	err = v4.NewSigner().SignHTTP(ctx, keys, request, unsigned, "s3", o.Region, time.Now(), func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	if err != nil {
		return err
	}
	answer, err := o.HTTPClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, answer.Body.Close()) }()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", answer.Status, strings.TrimSpace(string(text)))
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(text, into)
}
