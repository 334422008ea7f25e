<?php

declare(strict_types=1);

namespace App\Events;

use Illuminate\Broadcasting\Channel;
use Illuminate\Broadcasting\InteractsWithSockets;
use Illuminate\Broadcasting\PrivateChannel;
use Illuminate\Contracts\Broadcasting\ShouldBroadcast;

final class OrderShipped implements ShouldBroadcast
{
    use InteractsWithSockets;

    public function __construct(public int $order)
    {
    }

    public function broadcastOn(): array
    {
        return [new Channel('news'), new PrivateChannel("orders.{$this->order}")];
    }
}
