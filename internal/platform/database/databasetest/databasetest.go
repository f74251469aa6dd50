// Package databasetest has the smallest properties of databases, for tests.
package databasetest

// Cluster gives those of a cache cluster.
func Cluster() map[string]any {
	return map[string]any{"Engine": "redis", "CacheNodeType": "cache.t4g.micro", "NumCacheNodes": 1}
}

// Instance gives those of a database instance.
func Instance() map[string]any {
	return map[string]any{
		"Engine": "postgres", "DBInstanceClass": "db.t4g.micro", "AllocatedStorage": "20",
		"DBName": "shop", "MasterUsername": "keeper", "MasterUserPassword": "it's a secret 1",
	}
}

// Group gives those of a replication group.
func Group() map[string]any {
	return map[string]any{"ReplicationGroupDescription": "carts", "NumCacheClusters": "2", "CacheNodeType": "cache.t4g.micro"}
}
