// Package s3 is a bucket.Bucket in any store that speaks the S3 protocol: AWS S3, Cloudflare R2,
// MinIO, Ceph, versitygw and others.
//
//	objects, err := s3.New(s3.Config{Bucket: "blobs", Endpoint: "https://…", AccessKeyID: …, SecretAccessKey: …})
//	blobs, err := bucket.Open(ctx, bucket.Config{KV: store.KV, Bucket: objects})
//
// # Uploads
//
// What fits into one part (5 MiB) is one PUT. Anything longer is a multipart upload: one part is
// sent while the next one is read, so that an upload takes two parts of memory, however long it is.
// An upload that fails is aborted. What a process that died has left unfinished is aborted by
// [Bucket.Abort], which bucket.Store.Collect calls.
//
// # Nothing is public
//
// Objects get no access rules: a bucket stays as private as it was made. They are stored as
// attachments of the type application/octet-stream, so that a browser renders none of them even
// where a bucket is public by mistake. Readers get blobs from the server, or by an address that is
// signed for a short time: see [Bucket.URL].
//
// # What the store must do
//
// It must list in the order of names, and show in a listing what it has stored, at once: AWS has
// done both since 2020, R2 and the others named above do too. "Directory buckets" of AWS do not
// list in order, which [Bucket.List] notices. No feature beyond PUT, GET with a range, DELETE,
// ListObjectsV2 and multipart uploads is needed; DeleteObjects is used where there is one.
//
// # The client library
//
// The package uses the official aws-sdk-go-v2: service/s3 and credentials, without its
// configuration, transfer and metadata packages. It links 12 modules, fewer than the other client
// libraries, and leaves to us how much memory an upload takes, which its transfer manager does not.
// Checksums that stores other than AWS do not know are sent only where the protocol asks for them.
package s3
