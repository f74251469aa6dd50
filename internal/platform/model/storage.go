package model

// storage is the types of databases and caches for which no server runs.
func storage() map[string]Type {
	const cluster = "{lower DBClusterIdentifier 63}"
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
	}
}
