// Package s3 implements bucket.Bucket for any store with the S3 protocol: AWS S3, Cloudflare R2,
// MinIO, Ceph, versitygw and others.
//
//	objects, err := s3.New(s3.Config{Bucket: "blobs", Endpoint: "https://…", AccessKeyID: …, SecretAccessKey: …})
//	blobs, err := bucket.Open(ctx, bucket.Config{KV: store.KV, Bucket: objects})
//
// # Uploads
//
// An object that fits into one part (5 MiB) is one PUT. A longer one is a multipart upload: one
// part is sent while the next one is read, so an upload takes two parts of memory, whatever its
// length. A failed upload is aborted. Unfinished uploads of dead processes are aborted by
// [Bucket.Abort], which bucket.Store.Collect calls.
//
// # Nothing is public
//
// Objects get no access rules, so a bucket stays as private as it was created. They are stored as
// attachments of the type application/octet-stream, so a browser renders none of them even if a
// bucket is public by mistake. Readers get blobs from the server, or by a URL that is signed for a
// short time: see [Bucket.URL].
//
// # Requirements
//
// The store must list objects in the order of names, and listings must show new objects at once.
// AWS has done both since 2020; R2 and the others named above do too. "Directory buckets" of AWS do
// not list in order; [Bucket.List] detects that. The package needs PUT, GET with a range, DELETE,
// ListObjectsV2 and multipart uploads. It uses DeleteObjects if it is available.
//
// # The client library
//
// The package uses the official aws-sdk-go-v2: service/s3 and credentials, without its
// configuration, transfer and metadata packages. That is 12 modules, fewer than other client
// libraries. It also lets this package control the memory of an upload, which the transfer manager
// would not. Checksums that only AWS supports are sent only where the protocol requires them.
package s3
