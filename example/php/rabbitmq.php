<?php

/**
 * A new order, put on a queue of RabbitMQ: a node takes it from there and publishes it, also when it, Redis or RabbitMQ was
 * away in between.
 *
 *   RABBITMQ_HOST=127.0.0.1 RABBITMQ_PORT=5672 php rabbitmq.php 42 1001
 *
 * Needs php-amqplib/php-amqplib (or Debian's php-amqplib), and a node with rabbitmqIngress for the queue push-ingress.
 */

declare(strict_types=1);

use PhpAmqpLib\Connection\AMQPStreamConnection;
use PhpAmqpLib\Message\AMQPMessage;

// Composer's loader of the application, or Debian's of the package.
foreach ([__DIR__ . '/vendor/autoload.php', 'PhpAmqpLib/autoload.php'] as $loader) {
    if (stream_resolve_include_path($loader)) {
        require_once $loader;
        break;
    }
}
if (!class_exists(AMQPStreamConnection::class)) {
    fwrite(STDERR, "This example needs php-amqplib: composer require php-amqplib/php-amqplib\n");
    exit(1);
}

$customer = $argv[1] ?? '42';
$order = (int) ($argv[2] ?? 1001);
$queue = getenv('RABBITMQ_QUEUE') ?: 'push-ingress';

$connection = new AMQPStreamConnection(
    getenv('RABBITMQ_HOST') ?: '127.0.0.1',
    (int) (getenv('RABBITMQ_PORT') ?: 5672),
    getenv('RABBITMQ_USER') ?: 'guest',
    getenv('RABBITMQ_PASSWORD') ?: 'guest',
);
$channel = $connection->channel();
// From here on RabbitMQ says what it has stored. As the node declares it: durable.
$channel->confirm_select();
$channel->queue_declare($queue, false, true, false, false);

$request = ['to' => "user:$customer", 'type' => 'order.created', 'payload' => ['id' => $order]];
$json = JSON_UNESCAPED_UNICODE | JSON_INVALID_UTF8_SUBSTITUTE | JSON_THROW_ON_ERROR;
$message = new AMQPMessage(json_encode($request, $json), [
    'delivery_mode' => AMQPMessage::DELIVERY_MODE_PERSISTENT,
    // Names this order: however often it is sent or delivered, clients of a recorded topic get it once.
    'message_id' => "order-$order",
]);
$channel->basic_publish($message, '', $queue);
$channel->wait_for_pending_acks(5);
echo "order $order: RabbitMQ has it\n";

$channel->close();
$connection->close();
