package model

// storage is the types of databases and caches for which no server runs.
func storage() map[string]Type {
	const cluster = "{lower DBClusterIdentifier 63}"
	const cached = "{lower ReplicationGroupId 40}.{hex 6}.{short}.cache.amazonaws.com"
	return map[string]Type{
		"AWS::DynamoDB::Table": {
			Note: "holds no items", ref: "{name TableName 255}",
			attributes: map[string]any{
				"Arn":       "arn:aws:dynamodb:{region}:{account}:table/{ref}",
				"StreamArn": when{"StreamSpecification", "arn:aws:dynamodb:{region}:{account}:table/{ref}/stream/{made 2006-01-02T15:04:05.000}"},
			},
			replaces: map[string]string{"KeySchema": ""},
			checks:   []check{words("BillingMode", "PROVISIONED", "PAY_PER_REQUEST"), keySchema},
		},
		"AWS::ElastiCache::ReplicationGroup": {
			Note: "no server runs; use AWS::ElastiCache::CacheCluster for one that does", ref: "{lower ReplicationGroupId 40}",
			attributes: map[string]any{
				"PrimaryEndPoint.Address": "master." + cached, "PrimaryEndPoint.Port": "{property Port =6379}",
				"ReaderEndPoint.Address": "replica." + cached, "ReaderEndPoint.Port": "{property Port =6379}",
				"ConfigurationEndPoint.Address": "clustercfg." + cached, "ConfigurationEndPoint.Port": "{property Port =6379}",
				"ReadEndPoint.Addresses": "[replica." + cached + "]", "ReadEndPoint.AddressesList": []any{"replica." + cached},
				"ReadEndPoint.Ports": "[{property Port =6379}]", "ReadEndPoint.PortsList": []any{"{property Port =6379}"},
			},
			checks: []check{number("Port", 1, 65535), number("NumCacheClusters", 1, 6), number("NumNodeGroups", 1, 500)},
		},
		"AWS::ElastiCache::SubnetGroup": {Note: inVPC, ref: "{lower CacheSubnetGroupName 255}"},
		"AWS::RDS::DBCluster": {
			Note: "no server runs; use AWS::RDS::DBInstance for one that does", ref: cluster,
			attributes: map[string]any{
				"DBClusterArn": "arn:aws:rds:{region}:{account}:cluster:{ref}", "DBClusterResourceId": "cluster-{id 26}",
				"Endpoint.Address": "{ref}.cluster-{hex 12}.{region}.rds.amazonaws.com", "Endpoint.Port": "{property Port =3306}",
				"ReadEndpoint.Address":       "{ref}.cluster-ro-{hex 12}.{region}.rds.amazonaws.com",
				"MasterUserSecret.SecretArn": when{"ManageMasterUserPassword", "arn:aws:secretsmanager:{region}:{account}:secret:rds!cluster-{uuid}-{hex 6}"},
				"StorageEncryptionType":      "none", "StorageThroughput": "0",
			},
			replaces: map[string]string{"Engine": "", "MasterUsername": ""},
			checks:   []check{number("Port", 1150, 65535), number("BackupRetentionPeriod", 1, 35)},
		},
		"AWS::RDS::DBSubnetGroup": {Note: inVPC, ref: "{lower DBSubnetGroupName 255}"},
		"AWS::RDS::DBParameterGroup": {
			Note: "the server keeps its own settings", ref: "{lower DBParameterGroupName 255}", attributes: map[string]any{"DBParameterGroupName": "{ref}"},
		},
	}
}
