package objectserver

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/gofiber/fiber/v3"
	"github.com/versity/versitygw/auth"
	"github.com/versity/versitygw/backend"
	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/s3api"
	"github.com/versity/versitygw/s3api/middlewares"
	"github.com/versity/versitygw/s3api/utils"
	"github.com/versity/versitygw/s3err"
	"github.com/versity/versitygw/s3response"
)

// bulkServer answers the requests of our own.
type bulkServer struct {
	files    *posix.Posix
	disk     *disk
	metadata meta.MetadataStorer
	root     auth.Account
	users    auth.IAMService
	region   string
}

// routes are where the gateway hands requests over. One without our header is
// a client's, about a bucket in the host name and an object of that path.
func (s bulkServer) routes() []s3api.Option {
	verify := middlewares.VerifyV4Signature(middlewares.RootUserConfig{Access: s.root.Access, Secret: s.root.Secret}, s.users, s.region, false, true, false)
	route := func(method string, do func(ctx fiber.Ctx, bucket string) error) s3api.Option {
		return s3api.WithRoute(method, bulkPath+":bucket", func(ctx fiber.Ctx) error {
			if ctx.Get(bulkHeader) == "" {
				return ctx.Next()
			}
			err := verify(ctx)
			if err == nil {
				err = s.known(ctx, ctx.Params("bucket"))
			}
			if err == nil {
				err = do(ctx, strings.Clone(ctx.Params("bucket")))
			}
			if err != nil { // the client finds out by S3 what is the matter
				return ctx.Status(http.StatusBadRequest).SendString(err.Error())
			}
			return nil
		})
	}
	return []s3api.Option{route(http.MethodPut, s.put), route(http.MethodGet, s.list)}
}

// known is an error unless there is a bucket of that name.
func (s bulkServer) known(ctx fiber.Ctx, bucket string) error {
	if !utils.IsValidBucketName(bucket) {
		return s3err.GetBucketErr(s3err.ErrInvalidBucketName, bucket)
	}
	_, err := s.files.HeadBucket(ctx.RequestCtx(), &s3.HeadBucketInput{Bucket: &bucket})
	return err
}

// put stores the entries of an archive as objects.
func (s bulkServer) put(ctx fiber.Ctx, bucket string) error {
	body := ctx.Request().BodyStream()
	if body == nil { // it was short enough to be here already
		body = bytes.NewReader(ctx.Request().Body())
	}
	return s.putAll(ctx.RequestCtx(), bucket, tar.NewReader(body), func(key string) error {
		return auth.CheckObjectAccess(ctx, bucket, s.root, []types.ObjectIdentifier{{Key: &key}}, auth.BypassOverwrite, false, s.files, s.users, true)
	})
}

// putAll stores the entries one after the other, each as S3 would: whole or not
// at all. It returns when all of them are on the disk.
func (s bulkServer) putAll(ctx context.Context, bucket string, archive *tar.Reader, allowed func(key string) error) error {
	for {
		entry, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return s.disk.sync()
		}
		if err != nil {
			return fmt.Errorf("read the archive: %w", err)
		}
		if entry.Typeflag != tar.TypeReg || !utils.IsObjectNameValid(entry.Name) {
			return fmt.Errorf("%q cannot be the key of an object", entry.Name)
		}
		if err := allowed(entry.Name); err != nil {
			return fmt.Errorf("put %s: %w", entry.Name, err)
		}
		if err := s.putObject(ctx, bucket, entry, archive); err != nil {
			return fmt.Errorf("put %s: %w", entry.Name, err)
		}
	}
}

func (s bulkServer) putObject(ctx context.Context, bucket string, entry *tar.Header, content io.Reader) error {
	var h s3.PutObjectInput
	for record, value := range entry.PAXRecords {
		name, isHeader := strings.CutPrefix(record, headerRecord)
		if !isHeader {
			continue
		}
		if err := setHeader(&h, name, value); err != nil {
			return err
		}
	}
	_, err := s.files.PutObject(ctx, s3response.PutObjectInput{
		Bucket: &bucket, Key: &entry.Name, Body: content, ContentLength: &entry.Size, Metadata: h.Metadata, ContentType: h.ContentType,
		CacheControl: h.CacheControl, ContentEncoding: h.ContentEncoding, ContentLanguage: h.ContentLanguage, ContentDisposition: h.ContentDisposition,
	})
	return err
}

// list answers with the ETag of every object, by its key.
func (s bulkServer) list(ctx fiber.Ctx, bucket string) error {
	versioning, err := s.files.GetBucketVersioning(ctx.RequestCtx(), bucket)
	if err != nil {
		return err
	}
	whole := func(bucket string, owner bool) backend.GetObjFunc { return s.files.FileToObj(bucket, owner) }
	read := whole
	if versioning.Status == nil { // no file of it is a marker of a deletion
		read = s.etagsAlone
	}
	found, err := s.files.ListObjectsV2Parametrized(ctx.RequestCtx(), &s3.ListObjectsV2Input{
		Bucket: &bucket, MaxKeys: aws.Int32(math.MaxInt32), StartAfter: aws.String(""),
	}, read)
	if err != nil {
		return err
	}
	etags := make(map[string]string, len(found.Contents))
	for _, object := range found.Contents {
		etags[*object.Key] = strings.Trim(aws.ToString(object.ETag), `"`)
	}
	return ctx.JSON(etags)
}

// etagsAlone gives what reads the ETag of a file where it has one, since the
// rest of what a listing tells takes several times as long.
func (s bulkServer) etagsAlone(bucket string, owner bool) backend.GetObjFunc {
	whole := s.files.FileToObj(bucket, owner)
	return func(path string, d fs.DirEntry) (s3response.Object, error) {
		if d.IsDir() {
			return whole(path, d)
		}
		etag, err := s.metadata.RetrieveAttribute(nil, bucket, path, "etag")
		if err != nil {
			return whole(path, d)
		}
		return s3response.Object{Key: &path, ETag: aws.String(string(etag))}, nil
	}
}
