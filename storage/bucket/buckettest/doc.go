// Package buckettest tests implementations of bucket.Bucket, and code that uses buckets.
//
// [Run] tests the contract of an implementation. [Memory] is a bucket in memory, and [Faults] makes
// the methods of a bucket fail:
//
//	b := buckettest.Faults{After: func(method string) error { … }}.Wrap(new(buckettest.Memory))
package buckettest
