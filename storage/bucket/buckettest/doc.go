// Package buckettest tests implementations of bucket.Bucket, and what is built on them.
//
// [Run] checks that an implementation keeps the contract. [Memory] is a bucket in memory, and
// [Faults] makes the methods of a bucket fail:
//
//	b := buckettest.Faults{After: func(method string) error { … }}.Wrap(new(buckettest.Memory))
package buckettest
